"""The addresses of the site."""

from django.contrib.auth import urls as auth_urls
from django.urls import include, path
from orders import views

urlpatterns = [
    path("", views.home, name="home"),
    path("orders", views.order, name="order"),
    path("hooks/tasks", views.task_ended, name="task-ended"),
    path("accounts/", include(auth_urls)),
]
