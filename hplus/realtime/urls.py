from django.urls import path

from hplus.realtime.views import SyncView

urlpatterns = [path("", SyncView.as_view())]
