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

/** The copy after a frame. One that it has seen changes nothing, so a replay may overlap. */
export function applied(conversation: Conversation, frame: Frame): Conversation {
  if (frame.seq === undefined || frame.seq <= conversation.seq) return conversation;
  const moved = { ...conversation, seq: frame.seq };
  const data = frame.data ?? {};
  switch (frame.type) {
    case "timeline.upsert": {
      const entity = data.entity as Entity | undefined;
      return entity ? put(moved, entity) : moved;
    }
    case "llm.start":
      return put(moved, message(frame, "assistant"));
    case "llm.thinking.start":
      return put(moved, message(frame, "thinking"));
    case "llm.delta":
    case "llm.thinking.delta":
      return grown(moved, frame, String(data.delta ?? ""));
    case "llm.final":
      return ended(moved, frame, data.text as string | undefined);
    case "llm.thinking.final":
      return ended(moved, frame, undefined);
    default:
      // What else is shown comes as an upsert behind its frame.
      return moved;
  }
}

function put(conversation: Conversation, entity: Entity): Conversation {
  const entities = new Map(conversation.entities).set(entity.id, entity);
  const order = conversation.entities.has(entity.id) ? conversation.order : [...conversation.order, entity.id];
  return { ...conversation, order, entities };
}

function message(frame: Frame, role: string): Entity {
  return {
    id: frame.id,
    kind: "message",
    props: { role, content: "", streaming: true, metadata: frame.metadata ?? {} },
  };
}

function grown(conversation: Conversation, frame: Frame, delta: string): Conversation {
  const role = frame.type === "llm.delta" ? "assistant" : "thinking";
  const entity = conversation.entities.get(frame.id) ?? message(frame, role);
  const content = textOf(entity) + delta;
  return put(conversation, { ...entity, props: { ...entity.props, content, streaming: true } });
}

function ended(conversation: Conversation, frame: Frame, text: string | undefined): Conversation {
  const entity = conversation.entities.get(frame.id);
  if (!entity) return conversation;
  const content = text ?? textOf(entity);
  if (content === "") {
    // A message that ends without text leaves nothing (decision 26 of the contract's additions).
    const entities = new Map(conversation.entities);
    entities.delete(frame.id);
    return { ...conversation, entities, order: conversation.order.filter((id) => id !== frame.id) };
  }
  const metadata = { ...attributionOf(entity), ...frame.metadata };
  return put(conversation, { ...entity, props: { ...entity.props, content, streaming: false, metadata } });
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

/** Whether something of it is still being made. */
export function isGrowing(entity: Entity): boolean {
  return entity.props.streaming === true || entity.props.done === false;
}
