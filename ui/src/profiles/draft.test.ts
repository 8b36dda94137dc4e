import { expect, test } from "vitest";
import { bodyOf, type Document, draftOf, EMPTY, isSame, merged, slugOf } from "./draft";

const DOCUMENT: Document = {
  slug: "x",
  is_default: false,
  display_name: "X",
  runtime: {
    system_prompt: "P",
    middlewares: [{ name: "sqlite" }, { name: "agentmode", id: "m", enabled: false }],
    tools: [],
  },
  policy: { allow_overrides: true, read_only: false },
  metadata: { version: 3, tags: ["t"] },
  extensions: {
    "middleware.agentmode_config@v1": { instances: { "id:m": { default_mode: "d" } } },
    "middleware.sqlite_config@v1": { instances: { "index:0": { max_rows: 5 } } },
    "acme.x@v1": { a: 1 },
  },
};

test("configurations stand at their middlewares, and go back inline", () => {
  const draft = draftOf(DOCUMENT);
  expect(draft.middlewares).toEqual([
    { name: "sqlite", config: { max_rows: 5 } },
    { name: "agentmode", id: "m", enabled: false, config: { default_mode: "d" } },
  ]);
  expect(draft.extensions).toEqual({ "acme.x@v1": { a: 1 } });
  expect(bodyOf(draft)).toEqual({
    display_name: "X",
    description: "",
    metadata: { tags: ["t"] },
    runtime: { system_prompt: "P", middlewares: draft.middlewares, tools: [], step_settings_patch: {} },
    policy: { allow_overrides: true, allowed_override_keys: [], denied_override_keys: [], read_only: false },
    extensions: { "acme.x@v1": { a: 1 } },
  });
  expect(bodyOf({ ...draft, tools: null }).runtime).not.toHaveProperty("tools");
});

test("order of members does not count, order of lists does", () => {
  expect(isSame({ a: 1, b: [1, 2] }, { b: [1, 2], a: 1, c: undefined })).toBe(true);
  expect(isSame([1, 2], [2, 1])).toBe(false);
});

test("a merge takes both sides and names what both changed", () => {
  const mine = { ...EMPTY, system_prompt: "mine", description: "d" };
  const theirs = { ...EMPTY, system_prompt: "theirs", display_name: "N", description: "d" };
  const { draft, conflicts } = merged(EMPTY, mine, theirs);
  expect(conflicts).toEqual(["system_prompt"]);
  expect(draft).toEqual({ ...EMPTY, system_prompt: "mine", display_name: "N", description: "d" });
});

test("a name suggests a slug", () => {
  expect(slugOf("  Änderungs-Prüfer 2! ")).toBe("anderungs-prufer-2");
});
