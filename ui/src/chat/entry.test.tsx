// @vitest-environment happy-dom
import { cleanup, render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, expect, test, vi } from "vitest";
import type { ProfileListItem } from "../api";
import { Entry, groupsOf } from "./entry";
import { asMarkdown } from "./export";
import { EMPTY, type Entity } from "./frames";

afterEach(cleanup);

const message = (id: string, role: string, content: string, metadata: object = {}, more: object = {}): Entity => ({
  id,
  kind: "message",
  props: { role, content, metadata, ...more },
});
const conversation = (...all: Entity[]) => ({
  ...EMPTY,
  order: all.map((entity) => entity.id),
  entities: new Map(all.map((entity) => [entity.id, entity])),
});
const PROFILES: ProfileListItem[] = [{ slug: "poet", display_name: "Poet", version: 3 }];

test("an answer says who gave it, and that the profile is another one by now", () => {
  const by = { runtimeKey: "poet", profileVersion: 2, model: "m", usage: { inputTokens: 5, outputTokens: 7 } };
  const [group] = groupsOf(conversation(message("a", "assistant", "Roses", by)));
  if (!group) throw new Error("no group");
  render(<Entry group={group} profiles={PROFILES} />);
  expect(screen.getByText("Poet v2")).toBeTruthy();
  expect(screen.getByText("now v3")).toBeTruthy();
  expect(screen.getByText("5 tokens in, 7 out")).toBeTruthy();
  expect(screen.queryByText("Ask again")).toBeNull();
});

test("a change of profile is marked once, and one as it was being written has no number", () => {
  const of = (id: string, runtimeKey: string, profileVersion: number) =>
    message(id, "assistant", id, { runtimeKey, profileVersion });
  const groups = groupsOf(conversation(of("1", "a", 1), of("2", "a", 1), of("3", "b", 0)));
  expect(groups.map((group) => group.changedFrom)).toEqual([null, null, "a v1"]);
  const [, , last] = groups;
  if (!last) throw new Error("no group");
  render(<Entry group={last} profiles={[]} />);
  expect(screen.getByText("Profile changed: a v1 → b as written")).toBeTruthy();
});

test("calls of tools in a row are one group with their results", () => {
  const call = (id: string): Entity => ({ id, kind: "tool_call", props: { name: "calc", done: true } });
  const result = (of: string): Entity => ({
    id: `${of}-r`,
    kind: "tool_result",
    props: { toolCallId: of, result: "4" },
  });
  const groups = groupsOf(conversation(call("1"), result("1"), call("2"), result("2"), message("a", "assistant", "4")));
  expect(groups.map((group) => group.entities.length)).toEqual([2, 1]);
  expect([...(groups[0]?.results.keys() ?? [])]).toEqual(["1", "2"]);
});

test("the newest turn can be edited and asked again", async () => {
  const user = userEvent.setup();
  const acts = { onEdit: vi.fn(), onAgain: vi.fn() };
  const groups = groupsOf(conversation(message("user-1", "user", "Hi"), message("a", "assistant", "Ho")));
  render(groups.map((group) => <Entry key={group.key} group={group} profiles={[]} acts={acts} />));
  await user.click(screen.getByRole("button", { name: "Edit" }));
  await user.click(screen.getByRole("button", { name: "Ask again" }));
  expect([acts.onEdit.mock.calls.length, acts.onAgain.mock.calls.length]).toEqual([1, 1]);
});

test("an error says its reason, and can be tried again", async () => {
  const user = userEvent.setup();
  const acts = { onEdit: vi.fn(), onAgain: vi.fn() };
  const log: Entity = {
    id: "l",
    kind: "log",
    props: { level: "error", message: "too slow", fields: { code: "timeout" } },
  };
  const [group] = groupsOf(conversation(log));
  if (!group) throw new Error("no group");
  render(<Entry group={group} profiles={[]} acts={acts} />);
  expect(screen.getByText("too slow")).toBeTruthy();
  await user.click(screen.getByRole("button", { name: "Retry" }));
  expect(acts.onAgain).toHaveBeenCalledOnce();
});

test("a turn that was asked again is folded away, and says so in a file", () => {
  const by = { runtimeKey: "poet", profileVersion: 1 };
  const asked = conversation(
    message("user-t1", "user", "One?"),
    message("a1", "assistant", "Wrong", by),
    message("user-t2", "user", "Two?", { retryOf: "t1" }),
    message("a2", "assistant", "Right", by),
  );
  const groups = groupsOf(asked);
  expect(groups.map((group) => group.key)).toEqual(["replaced-t1", "user-t2", "a2"]);
  const [folded] = groups;
  if (!folded) throw new Error("no group");
  render(<Entry group={folded} profiles={[]} />);
  const summary = screen.getByText("Replaced by what follows: One?");
  expect(summary.closest("details")?.open).toBe(false);
  expect(screen.getByText("Wrong")).toBeTruthy();
  const titles = asMarkdown("T", asked).match(/^## .*$/gm);
  expect(titles).toEqual(["## You (replaced)", "## poet v1 (replaced)", "## You", "## poet v1"]);
});
