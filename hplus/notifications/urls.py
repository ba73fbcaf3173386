from django.urls import path

from hplus.notifications import views

urlpatterns = [
    path("", views.NotificationsView.as_view()),
    path("read/", views.ReadView.as_view()),
]
