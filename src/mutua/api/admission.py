"""Kinds of the group admissionregistration.k8s.io: whom the API server asks, and for which objects."""

from typing import Any

import msgspec

from mutua.api.meta import KubernetesObject, Lenient


class ServiceReference(Lenient, frozen=True):
    """The Service that answers."""

    namespace: str = ""
    name: str = ""
    path: str = ""
    port: int = 443


class WebhookClientConfig(Lenient, frozen=True):
    """How the API server reaches the webhook."""

    service: ServiceReference | None = None
    url: str = ""


class Webhook(Lenient, frozen=True):
    """One webhook; its selectors are Kubernetes LabelSelectors as written."""

    name: str = ""
    client_config: WebhookClientConfig = WebhookClientConfig()
    namespace_selector: dict[str, Any] = msgspec.field(default_factory=dict)
    object_selector: dict[str, Any] = msgspec.field(default_factory=dict)


class MutatingWebhookConfiguration(KubernetesObject, frozen=True):
    """admissionregistration.k8s.io/v1 MutatingWebhookConfiguration."""

    webhooks: tuple[Webhook, ...] = ()


class ValidatingWebhookConfiguration(KubernetesObject, frozen=True):
    """admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration."""

    webhooks: tuple[Webhook, ...] = ()
