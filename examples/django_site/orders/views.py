"""Order an analysis, show it live, and learn of its end."""

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, HttpResponseBadRequest, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from orders.models import Order
from orders.realtime import callback_signature, client_of, page_token, site_client
from standardwebhooks import WebhookVerificationError

from tornado_rt_client import ApiError, ConnectionLost


@login_required
def home(request):
    """Show one's orders; the page follows those that run."""
    realtime = {"url": settings.RT_URL, "token": page_token(request.user)}
    orders = Order.objects.filter(user=request.user)
    return render(request, "orders/home.html", {"orders": orders, "realtime": realtime})


@login_required
@require_POST
def order(request):
    """Submit the task of an order. A double click makes one: the form has a key of its own."""
    symbol = request.POST.get("symbol", "")
    try:
        with client_of(request.user) as client:
            task = client.submit(
                "analysis",
                {"symbol": symbol},
                label=f"Order of {symbol}",
                notify=False,
                callback_url=request.build_absolute_uri(reverse("task-ended")),
                idempotency_key=request.POST.get("key") or None,
            )
    except (ApiError, ConnectionLost) as error:
        return JsonResponse({"error": str(error)}, status=getattr(error, "status", None) or 503)
    made = {"user": request.user, "symbol": symbol}
    Order.objects.get_or_create(task_id=task.id, defaults=made)
    return JsonResponse({"task_id": task.id}, status=202)


@csrf_exempt
@require_POST
def task_ended(request):
    """Take a callback. It may come again: what it says is set, and told to the user once."""
    try:
        event = callback_signature().verify(request.body, dict(request.headers))
    except WebhookVerificationError as error:
        return HttpResponseBadRequest(f"this was not sent by the server: {error}")
    found = Order.objects.filter(task_id=event["task_id"]).first()
    if found is None:
        # The view above is not that far yet; the server comes again.
        return HttpResponse(status=503)
    found.status, found.decision = event["status"], (event["result"] or {}).get("decision", "")
    found.save()
    with site_client() as client:
        client.notify(
            found.user.get_username(),
            type="order.ended",
            title=f"Your order of {found.symbol} is {found.status}",
            link="/",
            idempotency_key=event["event_id"],
        )
    return HttpResponse(status=204)
