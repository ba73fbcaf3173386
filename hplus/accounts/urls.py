from django.urls import path

from hplus.accounts import views

urlpatterns = [
    path("token/", views.SignInView.as_view()),
    path("refresh/", views.RefreshView.as_view()),
    path("logout/", views.SignOutView.as_view()),
    path("ticket/", views.TicketView.as_view()),
]
