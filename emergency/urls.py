from django.urls import path

from emergency import actions, messages, views
from emergency.amend import amend
from emergency.escalation_ack import acknowledge_escalation
from emergency.named_patient import confirm_patient
from emergency.response import respond
from hplus.realtime.rest import action_view

urlpatterns = [
    path("", views.EmergenciesView.as_view()),
    path("response-times/", views.ResponseTimesView.as_view()),
    path("diversion/", action_view(messages.SetDiversion, actions.set_diversion).as_view()),
    path("<str:emergency_id>/", views.EmergencyView.as_view()),
    path("<str:emergency_id>/timeline/", views.TimelineView.as_view()),
    path("<str:emergency_id>/track.geojson", views.TrackView.as_view()),
    path("<str:emergency_id>/calls/", views.CallsView.as_view()),
    path("<str:emergency_id>/part/", views.PartView.as_view()),
    path("<str:emergency_id>/fhir/", views.FhirView.as_view()),
    path("<str:emergency_id>/nearest/", views.NearestView.as_view()),
    path("<str:emergency_id>/response/", action_view(messages.Respond, respond).as_view()),
    path("<str:emergency_id>/status/", action_view(messages.UpdateStatus, actions.update_status).as_view()),
    path(
        "<str:emergency_id>/confirm-patient/", action_view(messages.ConfirmPatient, confirm_patient).as_view()
    ),
    path(
        "<str:emergency_id>/escalation-ack/",
        action_view(messages.AcknowledgeEscalation, acknowledge_escalation).as_view(),
    ),
    path("<str:emergency_id>/amend/", action_view(messages.Amend, amend).as_view()),
    path("<str:emergency_id>/reassign/", action_view(messages.Reassign, actions.reassign).as_view()),
    path("<str:emergency_id>/transfer/", action_view(messages.Transfer, actions.transfer).as_view()),
]
