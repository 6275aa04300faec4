"""What the documentation says must be what the program takes."""

import re
from dataclasses import fields
from pathlib import Path

import click
import pytest

from embarchive import pyramid
from embarchive.cli import cli
from embarchive.model import choose_architecture
from embarchive.recipe import RECIPE_TABLES, Recipe, read_recipe
from embarchive.rows import schema

DOCS = Path(__file__).parent.parent / "docs"
COMMANDS = sorted(cli.commands)


def section_of(text, name):
    found = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no section {name}"
    return found[1]


def section(name):
    return section_of((DOCS / "commands.md").read_text(encoding="utf-8"), name)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_its_own_options_are_documented(name):
    text, common = section(name), section("Options of every command")
    for option in cli.commands[name].params:
        if isinstance(option, click.Option):
            known = re.findall(r"`(--?[\w-]+)", text + common)
            assert set(option.opts) & set(known), option.opts


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_is_documented_that_is_not_there(name):
    real = {text for option in cli.commands[name].params for text in option.opts}
    assert set(re.findall(r"^\| `(--?[\w-]+)", section(name), re.MULTILINE)) <= real


def test_every_recipe_key_is_documented_with_its_default():
    text = (DOCS / "recipe.md").read_text(encoding="utf-8")
    for field in fields(Recipe):
        if field.name == "indices":
            assert "[indices]" in text
            continue
        row = re.search(rf"^\| `{field.name}` \| ([^|]*) \|", text, re.MULTILINE)
        assert row, f"docs/recipe.md does not document {field.name}"
        told = str(field.default).lower() if field.type == "bool" else field.default
        default = "" if field.default in (None, (), "") else f"`{told}`"
        assert row[1].strip() == default, field.name


def test_the_example_recipe_reads_and_uses_every_table(tmp_path):
    text = (DOCS / "recipe.md").read_text(encoding="utf-8")
    example = re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1]
    (tmp_path / "r.toml").write_text(example, encoding="utf-8")
    assert read_recipe(tmp_path / "r.toml").indices
    for table in (*RECIPE_TABLES, "indices"):
        assert f"[{table}]" in example


def test_the_format_names_every_column_and_tensor():
    text = (DOCS.parent / "manifests" / "FORMAT.md").read_text(encoding="utf-8")
    columns = section_of(text, "Shards")
    assert re.findall(r"^\| (\w+) \| ", columns, re.MULTILINE)[1:] == schema(64, 128).names
    columns = re.findall(r"^\| (\w[\w, ]*) \| ", section_of(text, "Pyramid"), re.MULTILINE)[1:]
    assert ", ".join(columns).split(", ") == pyramid.schema(64).names
    arch = choose_architecture(4, 64, 64, 64)
    names = {*arch.shapes("backbone"), *arch.shapes("adapter")}
    names = {re.sub(r"block\d", "block{i}", name) for name in names if not name.endswith("_bias")}
    assert names <= set(re.findall(r"[a-z_0-9.{}]+", section_of(text, "Weights").replace(";", " ")))
