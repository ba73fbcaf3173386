from django.urls import path

from chat import actions, messages, views
from chat.receipts import mark_as_read
from hplus.realtime.rest import action_view

urlpatterns = [
    path("rooms/", views.RoomsView.as_view()),
    path("rooms/<str:chat_room_id>/messages/", views.RoomMessagesView.as_view()),
    path("messages/", action_view(messages.SendMessage, actions.send, 201).as_view()),
    path("messages/read/", action_view(messages.MarkAsRead, mark_as_read).as_view()),
    path("messages/edit/", action_view(messages.EditMessage, actions.edit).as_view()),
    path("messages/delete/", action_view(messages.DeleteMessage, actions.delete).as_view()),
    path("attachments/", views.AttachmentsView.as_view()),
    path("attachments/<str:attachment_id>/", views.AttachmentView.as_view()),
]
