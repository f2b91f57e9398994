"""Holds the document given as argument to OpenAPI 3.1, and its examples to its schemas."""

import json
import sys

import jsonschema
import openapi_spec_validator

document = json.load(open(sys.argv[1], encoding="utf-8"))
openapi_spec_validator.validate(document, cls=openapi_spec_validator.OpenAPIV31SpecValidator)


def contents(node):
    """Everything in the document that has a schema and examples."""
    if isinstance(node, dict):
        if "schema" in node:
            yield node
        for child in node.values():
            yield from contents(child)
    elif isinstance(node, list):
        for child in node:
            yield from contents(child)


checked = 0
for content in contents(document):
    schema = jsonschema.Draft202012Validator(
        {"components": document["components"], **content["schema"]},
        format_checker=jsonschema.FormatChecker(),
    )
    examples = [example["value"] for example in content.get("examples", {}).values()]
    examples += content["schema"].get("examples", [])
    if "example" in content:
        examples.append(content["example"])
    for example in examples:
        schema.validate(example)
        checked += 1
print(f"{checked} examples")
