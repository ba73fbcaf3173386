from django.urls import path

from location import views

# A userId is any text, slashes included.
urlpatterns = [path("<path:user_id>/", views.LocationView.as_view())]
