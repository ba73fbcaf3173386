from django.urls import path

from location import views

# A userId may contain slashes.
urlpatterns = [path("<path:user_id>/", views.LocationView.as_view())]
