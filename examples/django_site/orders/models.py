"""The orders of users."""

from django.conf import settings
from django.db import models


class Order(models.Model):
    """An order, and the task that fulfils it."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    symbol = models.CharField(max_length=20)
    task_id = models.CharField(max_length=64, unique=True)
    status = models.CharField(max_length=20, default="queued")
    decision = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-id"]
