"""Whom we answer: xDS, CA, webhooks, SDS, admin."""
