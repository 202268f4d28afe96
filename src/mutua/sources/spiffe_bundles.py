"""Other meshes' roots from their SPIFFE bundle end points: fetched over HTTPS, by the same rules as issuers' keys."""

from urllib.parse import urlsplit

from mutua.ca import spiffe_bundle
from mutua.errors import RefusedError
from mutua.sources.key_sets import KeySets


class SpiffeBundles(KeySets):
    """Follows the end points that are wanted; `current` has the roots (PEM) by location."""

    WHAT = "a SPIFFE bundle"
    WHEN_TOO_OLD = "its peers are refused"

    async def _fetch(self, location: str) -> str:
        if urlsplit(location).scheme != "https":
            # Whoever stands between could give the mesh roots of their own.
            raise RefusedError(f"{location!r} is not https")
        _, document = await self._get(location)
        return spiffe_bundle.roots(document)
