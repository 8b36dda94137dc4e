// What a conversation is, and what a frame makes of it (docs/frames.md). Pure.

/** An entity of the timeline: a message, a call of a tool, its result, a log line, a change of mode, a pause. */
export interface Entity {
  id: string;
  kind: string;
  createdAtMs?: string;
  updatedAtMs?: string;
  props: Record<string, unknown>;
}

/** Who made a message. */
export interface Attribution {
  model?: string;
  registry?: string;
  runtimeKey?: string;
  profileVersion?: number;
  stopReason?: string;
  durationMs?: string;
  turnId?: string;
  /** Of a prompt: the turn whose place it took. */
  retryOf?: string;
  usage?: { inputTokens?: number; outputTokens?: number };
}

export interface Frame {
  type: string;
  id: string;
  seq?: number;
  data?: Record<string, unknown>;
  metadata?: Attribution;
}

/** A copy of a conversation, true up to `seq`. */
export interface Conversation {
  seq: number;
  /** Ids in the order in which they appear. */
  order: readonly string[];
  entities: ReadonlyMap<string, Entity>;
}

export const EMPTY: Conversation = { seq: 0, order: [], entities: new Map() };

interface Snapshot {
  version?: string;
  entities?: Entity[];
}

/** The copy that a snapshot of the timeline gives. */
export function hydrated(snapshot: Snapshot): Conversation {
  const found = snapshot.entities ?? [];
  return {
    seq: Number(snapshot.version ?? 0),
    order: found.map((entity) => entity.id),
    entities: new Map(found.map((entity) => [entity.id, entity])),
  };
}

/** The copy on its way. */
interface Work {
  seq: number;
  order: string[];
  entities: Map<string, Entity>;
}

/** The copy after frames. One that it has seen changes nothing, so a replay may overlap. */
export function applied(conversation: Conversation, frames: readonly Frame[]): Conversation {
  const work: Work = {
    seq: conversation.seq,
    order: [...conversation.order],
    entities: new Map(conversation.entities),
  };
  for (const frame of frames) apply(work, frame);
  return work.seq === conversation.seq ? conversation : work;
}

function apply(work: Work, frame: Frame): void {
  if (frame.seq === undefined || frame.seq <= work.seq) return;
  work.seq = frame.seq;
  const data = frame.data ?? {};
  switch (frame.type) {
    case "timeline.upsert": {
      const entity = data.entity as Entity | undefined;
      if (entity) put(work, entity);
      return;
    }
    case "llm.start":
      put(work, message(frame, "assistant"));
      return;
    case "llm.thinking.start":
      put(work, message(frame, "thinking"));
      return;
    case "llm.delta":
    case "llm.thinking.delta":
      grow(work, frame, String(data.delta ?? ""));
      return;
    case "llm.final":
      end(work, frame, data.text as string | undefined);
      return;
    case "llm.thinking.final":
      end(work, frame, undefined);
      return;
    default:
    // What else is shown comes as an upsert behind its frame.
  }
}

function put(work: Work, entity: Entity): void {
  if (!work.entities.has(entity.id)) work.order.push(entity.id);
  work.entities.set(entity.id, entity);
}

function message(frame: Frame, role: string): Entity {
  return {
    id: frame.id,
    kind: "message",
    props: { role, content: "", streaming: true, metadata: frame.metadata ?? {} },
  };
}

function grow(work: Work, frame: Frame, delta: string): void {
  const role = frame.type === "llm.delta" ? "assistant" : "thinking";
  const entity = work.entities.get(frame.id) ?? message(frame, role);
  const content = textOf(entity) + delta;
  put(work, { ...entity, props: { ...entity.props, content, streaming: true } });
}

function end(work: Work, frame: Frame, text: string | undefined): void {
  const entity = work.entities.get(frame.id);
  if (!entity) return;
  const content = text ?? textOf(entity);
  if (content === "") {
    // A message that ends without text leaves nothing (decision 26 of the contract's additions).
    work.entities.delete(frame.id);
    work.order = work.order.filter((id) => id !== frame.id);
    return;
  }
  const metadata = { ...attributionOf(entity), ...frame.metadata };
  put(work, { ...entity, props: { ...entity.props, content, streaming: false, metadata } });
}

export function textOf(entity: Entity): string {
  return typeof entity.props.content === "string" ? entity.props.content : "";
}

export function roleOf(entity: Entity): string {
  return typeof entity.props.role === "string" ? entity.props.role : "";
}

export function attributionOf(entity: Entity): Attribution {
  return (entity.props.metadata as Attribution | undefined) ?? {};
}

/** The turn that a prompt begins; none if it is none. */
export function turnOf(entity: Entity): string | undefined {
  return entity.id.startsWith("user-") ? entity.id.slice("user-".length) : undefined;
}

/** Turns whose place another one took: the model does not see them any more. */
export function replacedTurns(conversation: Conversation): ReadonlySet<string> {
  const prompts = [...conversation.entities.values()].filter((entity) => turnOf(entity) !== undefined);
  return new Set(prompts.flatMap((prompt) => attributionOf(prompt).retryOf ?? []));
}

/** Whether something of it is still being made. */
export function isGrowing(entity: Entity): boolean {
  return entity.props.streaming === true || entity.props.done === false;
}
