import { describe, expect, test } from "vitest";
import { applied, type Conversation, EMPTY, type Entity, type Frame, hydrated, textOf } from "./frames";

const frame = (seq: number, type: string, id: string, data: Record<string, unknown> = {}): Frame => ({
  type,
  id,
  seq,
  data,
});
const entity = (id: string, props: Record<string, unknown>): Entity => ({ id, kind: "message", props });
const upsert = (seq: number, of: Entity) => frame(seq, "timeline.upsert", of.id, { entity: of });
const all = (frames: Frame[], from: Conversation = EMPTY) => applied(from, frames);
const texts = (conversation: Conversation) =>
  conversation.order.map((id) => `${id}: ${textOf(conversation.entities.get(id) as Entity)}`);

const run: Frame[] = [
  frame(1, "chat.message", "user-1", { content: "Hi" }),
  upsert(2, entity("user-1", { role: "user", content: "Hi", streaming: false })),
  frame(3, "llm.start", "m1"),
  frame(4, "llm.delta", "m1", { delta: "Hel" }),
  upsert(5, entity("m1", { role: "assistant", content: "Hel", streaming: true })),
  frame(6, "llm.delta", "m1", { delta: "lo" }),
  frame(7, "llm.final", "m1", { text: "Hello" }),
  upsert(8, entity("m1", { role: "assistant", content: "Hello", streaming: false })),
];

describe("a copy of a conversation", () => {
  test("grows with every frame and ends as the server has it", () => {
    expect(texts(all(run.slice(0, 4)))).toEqual(["user-1: Hi", "m1: Hel"]);
    expect(texts(all(run.slice(0, 6)))).toEqual(["user-1: Hi", "m1: Hello"]);
    expect(all(run).entities.get("m1")?.props.streaming).toBe(false);
  });

  test("is the same frame by frame as in one batch", () => {
    expect(run.reduce((before, frame) => applied(before, [frame]), EMPTY)).toEqual(all(run));
  });

  test("is the same whatever is replayed of it", () => {
    const whole = all(run);
    for (let seen = 0; seen <= run.length; seen++) {
      const broken = all(run.slice(0, seen));
      for (let again = 0; again <= seen; again++) expect(all(run.slice(again), broken)).toEqual(whole);
    }
  });

  test("goes on from a snapshot exactly where that ends", () => {
    const snapshot = hydrated({
      version: "5",
      entities: [entity("user-1", { content: "Hi" }), entity("m1", { content: "Hel", streaming: true })],
    });
    expect(texts(all(run, snapshot))).toEqual(["user-1: Hi", "m1: Hello"]);
  });

  test("leaves no message that said nothing", () => {
    expect(texts(all([frame(1, "llm.start", "m"), frame(2, "llm.final", "m")]))).toEqual([]);
  });

  test("does not mind frames without a number or of unknown types", () => {
    const conversation = all(run);
    expect(applied(conversation, [{ type: "ws.pong", id: "x" }])).toBe(conversation);
    expect(texts(applied(conversation, [frame(9, "new.kind", "y")]))).toEqual(texts(conversation));
  });
});
