"""Kinds of the group admissionregistration.k8s.io: whom the API server asks, and for which objects."""

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


class SelectorExpression(Lenient, frozen=True):
    """One demand of a LabelSelector. Source: LabelSelectorRequirement of meta/v1."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class ObjectSelector(Lenient, frozen=True):
    """Kubernetes' own LabelSelector, with expressions. Source: LabelSelector of meta/v1."""

    match_labels: dict[str, str] = msgspec.field(default_factory=dict)
    match_expressions: tuple[SelectorExpression, ...] = ()


class Webhook(Lenient, frozen=True):
    """One webhook."""

    name: str = ""
    client_config: WebhookClientConfig = WebhookClientConfig()
    namespace_selector: ObjectSelector = ObjectSelector()
    object_selector: ObjectSelector = ObjectSelector()


class MutatingWebhookConfiguration(KubernetesObject, frozen=True):
    """admissionregistration.k8s.io/v1 MutatingWebhookConfiguration."""

    webhooks: tuple[Webhook, ...] = ()


class ValidatingWebhookConfiguration(KubernetesObject, frozen=True):
    """admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration."""

    webhooks: tuple[Webhook, ...] = ()
