from django.urls import path

from emergency import actions, messages, views
from emergency.responding import respond
from hplus.realtime.deeds import deed

urlpatterns = [
    path("", views.EmergenciesView.as_view()),
    path("response-times/", views.ResponseTimesView.as_view()),
    path("diversion/", deed(messages.SetDiversion, actions.set_diversion).as_view()),
    path("<str:emergency_id>/", views.EmergencyView.as_view()),
    path("<str:emergency_id>/timeline/", views.TimelineView.as_view()),
    path("<str:emergency_id>/track.geojson", views.TrackView.as_view()),
    path("<str:emergency_id>/fhir/", views.FhirView.as_view()),
    path("<str:emergency_id>/nearest/", views.NearestView.as_view()),
    path("<str:emergency_id>/response/", deed(messages.Respond, respond).as_view()),
    path("<str:emergency_id>/status/", deed(messages.UpdateStatus, actions.update_status).as_view()),
    path("<str:emergency_id>/reassign/", deed(messages.Reassign, actions.reassign).as_view()),
    path("<str:emergency_id>/transfer/", deed(messages.Transfer, actions.transfer).as_view()),
]
