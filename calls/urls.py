from django.urls import path

from calls import views

urlpatterns = [
    path("", views.CallsView.as_view()),
    path("<str:call_id>/", views.CallView.as_view()),
]
