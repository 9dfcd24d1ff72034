"""Machinery: an artifact's README.md, made from its manifest alone.

Its front matter is a Hugging Face card, so that `datasets.load_dataset(FOLDER)` opens the splits.
"""

from collections.abc import Iterator

import yaml

from pipeline.artifacts.identity import SHORT
from pipeline.artifacts.manifest import Manifest
from pipeline.runtime.hashing import JSON, Page
from pipeline.tables.splits import SPLITS


def render_card(manifest: Manifest) -> str:
    """Return the text of the card."""
    front = yaml.safe_dump(_front_matter(manifest), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n".join(_body(manifest)) + "\n"


def _front_matter(manifest: Manifest) -> JSON:
    licenses = sorted({entry.license for entry in manifest.licenses})
    front: Page = {"license": licenses if len(licenses) != 1 else licenses[0]}
    if configs := list(_configs(manifest)):
        front["configs"] = configs
    return front


def _configs(manifest: Manifest) -> Iterator[JSON]:
    """Yield a configuration for the rows and, if any were rejected, one for the rejects."""
    arrow = [entry.path for entry in manifest.files if entry.path.endswith(".arrow")]
    present = [split for split in SPLITS if any(path.startswith(f"{split}-") for path in arrow)]
    if present:
        files = [{"split": split, "path": f"payload/{split}-*.arrow"} for split in present]
        yield {"config_name": "default", "data_files": files, "default": True}
    if any(path.startswith("rejects-") for path in arrow):
        yield {"config_name": "rejects", "data_files": [{"split": "rejects", "path": "payload/rejects-*.arrow"}]}


def _body(manifest: Manifest) -> Iterator[str]:
    recipe = manifest.recipe
    yield f"# {manifest.kind} {manifest.id[:SHORT]}\n"
    yield f"Made by `{recipe.stage}` (version {recipe.stage_version}); digest `{manifest.digest[:SHORT]}`.\n"
    yield "## Made from\n"
    yield from (f"- {role}: `{name.kind}:{name.id[:SHORT]}`" for role, name in sorted(recipe.inputs.items()))
    yield from (f"- {source['name']}: {source['location']}" for source in recipe.config.get("sources", []))
    yield "\n## Facts\n"
    yield from (f"- {key}: {value}" for key, value in sorted(manifest.facts.items()))
    if manifest.counts:
        yield "\n## Counts\n"
        yield from (f"- {key}: {value}" for key, value in sorted(manifest.counts.items()))
    if manifest.licenses:
        yield "\n## Licences and attribution\n"
        yield from (f"- {entry.source} ({entry.license}): {entry.attribution}" for entry in manifest.licenses)
