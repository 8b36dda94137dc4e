import { expect, test } from "vitest";
import { blocksOf } from "./blocks";

test("blocks are cut at blank lines, but not inside of code or lists", () => {
  expect(blocksOf("a\nb\n\nc")).toEqual(["a\nb\n\n", "c"]);
  expect(blocksOf("```\na\n\nb\n```\n\nc")).toEqual(["```\na\n\nb\n```\n\n", "c"]);
  expect(blocksOf("- a\n\n- b\n\n  c\n\nd")).toEqual(["- a\n\n- b\n\n  c\n\n", "d"]);
  expect(blocksOf("1. a\n\n2. b")).toEqual(["1. a\n\n2. b"]);
  expect(blocksOf("")).toEqual([]);
});

test("a text with references stays whole", () => {
  const text = "See [x].\n\nMore.\n\n[x]: http://h";
  expect(blocksOf(text)).toEqual([text]);
});

test("whatever comes, nothing is lost and finished blocks stay", () => {
  const text =
    "# Title\n\nOne **two**.\n\n```rust\nfn a() {\n\n}\n```\n\n> q\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nEnd.\n\n~~~~\n~~~\n~~~~\nx";
  let before: string[] = [];
  for (let end = 0; end <= text.length; end++) {
    const blocks = blocksOf(text.slice(0, end));
    expect(blocks.join("")).toBe(text.slice(0, end));
    expect(blocks.slice(0, before.length - 1)).toEqual(before.slice(0, -1));
    before = blocks;
  }
});
