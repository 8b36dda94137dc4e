// One thing of a thread: a prompt, an answer with who gave it, a group of tool calls, a change, an error.

import { Link } from "@tanstack/react-router";
import { memo } from "react";
import type { ProfileListItem } from "../api";
import { useCopy } from "../copy";
import { Icon } from "../icons";
import { duration } from "../time";
import {
  type Attribution,
  attributionOf,
  type Conversation,
  type Entity,
  replacedTurns,
  roleOf,
  textOf,
  turnOf,
} from "./frames";
import { Markdown } from "./markdown";
import { Tools } from "./tools";

/** What is shown as one. */
export interface Group {
  key: string;
  /** The first entity; of tools all of them. */
  entities: Entity[];
  /** Results by the id of their call. */
  results: ReadonlyMap<string, Entity>;
  turnId: string;
  /** Set where the profile is another than before. */
  changedFrom: string | null;
  /** Of a turn whose place another one took: all that it was, which the model does not see any more. */
  replaced?: Group[];
}

const NO_RESULTS: ReadonlyMap<string, Entity> = new Map();

/** Entities in groups: calls of tools in a row are one, results belong to their calls. */
export function groupsOf(conversation: Conversation): Group[] {
  const groups: Group[] = [];
  const results = new Map<string, Entity>();
  let turnId = "";
  let by = "";
  for (const id of conversation.order) {
    const entity = conversation.entities.get(id);
    if (!entity) continue;
    if (entity.kind === "tool_result") {
      results.set(String(entity.props.toolCallId), entity);
      continue;
    }
    turnId = turnOf(entity) ?? turnId;
    const last = groups.at(-1);
    if (entity.kind === "tool_call" && last?.entities[0]?.kind === "tool_call") {
      last.entities.push(entity);
      last.results = results;
      continue;
    }
    const { runtimeKey, profileVersion } = attributionOf(entity);
    const name = runtimeKey && roleOf(entity) === "assistant" ? `${runtimeKey} ${versionOf(profileVersion)}` : "";
    const changedFrom = name && by && name !== by ? by : null;
    if (name) by = name;
    const own = entity.kind === "tool_call" ? results : NO_RESULTS;
    groups.push({ key: entity.id, entities: [entity], results: own, turnId, changedFrom });
  }
  return folded(groups, replacedTurns(conversation));
}

/** Replaced turns as one group each. */
function folded(groups: Group[], replaced: ReadonlySet<string>): Group[] {
  const shown: Group[] = [];
  for (const group of groups) {
    const { turnId, entities } = group;
    const last = shown.at(-1);
    if (!replaced.has(turnId)) shown.push(group);
    else if (last?.replaced && last.turnId === turnId) {
      last.replaced.push(group);
      last.entities.push(...entities);
    } else {
      const key = `replaced-${turnId}`;
      shown.push({
        key,
        entities: [...entities],
        results: group.results,
        turnId,
        changedFrom: null,
        replaced: [group],
      });
    }
  }
  return shown;
}

interface Props {
  group: Group;
  profiles: ProfileListItem[];
  /** Set where the inspector can explain its turns. */
  convId?: string | undefined;
  /** What can be done here: on the newest turn, while nothing runs. */
  acts?: { onEdit: () => void; onAgain: () => void } | undefined;
}

export const Entry = memo(
  function Entry({ group, profiles, acts, convId }: Props) {
    const [entity] = group.entities;
    if (!entity) return null;
    if (group.replaced) return <Replaced groups={group.replaced} profiles={profiles} convId={convId} />;
    const shown = shownAs(entity, group, profiles, acts, convId);
    const now = attributionOf(entity);
    return (
      <>
        {group.changedFrom && (
          <p className="divider">
            <span>
              Profile changed: {group.changedFrom} → {now.runtimeKey} {versionOf(now.profileVersion)}
            </span>
          </p>
        )}
        {shown}
      </>
    );
  },
  (before, now) =>
    before.acts === now.acts &&
    before.profiles === now.profiles &&
    before.group.changedFrom === now.group.changedFrom &&
    before.group.entities.length === now.group.entities.length &&
    before.group.entities.every(
      (entity, at) =>
        entity === now.group.entities[at] && before.group.results.get(entity.id) === now.group.results.get(entity.id),
    ),
);

function Replaced({ groups, profiles, convId }: { groups: Group[] } & Pick<Props, "profiles" | "convId">) {
  return (
    <details className="entry replaced">
      <summary>Replaced by what follows: {textOf(groups[0]?.entities[0] as Entity)}</summary>
      <div>
        {groups.map((group) => (
          <Entry key={group.key} group={group} profiles={profiles} convId={convId} />
        ))}
      </div>
    </details>
  );
}

function shownAs(
  entity: Entity,
  group: Group,
  profiles: ProfileListItem[],
  acts: Props["acts"],
  convId: string | undefined,
) {
  const text = textOf(entity);
  if (entity.kind === "tool_call") return <Tools calls={group.entities} results={group.results} />;
  if (entity.kind === "message") {
    switch (roleOf(entity)) {
      case "user":
        return (
          <div className="entry prompt">
            <div className="prompt-text">{text}</div>
            <div className="entry-actions" data-newest={acts !== undefined}>
              {acts && (
                <button type="button" className="quiet" onClick={acts.onEdit}>
                  <Icon name="edit" />
                  Edit
                </button>
              )}
              <CopyText text={text} label="Copy the prompt" />
            </div>
          </div>
        );
      case "thinking":
        return (
          <details className="entry thinking">
            <summary>{entity.props.streaming ? "Thinking" : `Thought${tookOf(entity)}`}</summary>
            <Markdown text={text} />
          </details>
        );
      default:
        return (
          <article className="entry answer" data-growing={entity.props.streaming === true}>
            <By attribution={attributionOf(entity)} profiles={profiles} />
            <Markdown text={text} growing={entity.props.streaming === true} />
            {/* The row is there from the start, so that nothing moves when an answer ends. */}
            <div className="entry-actions" data-newest={acts !== undefined}>
              {acts && !entity.props.streaming && (
                <button type="button" className="quiet" onClick={acts.onAgain}>
                  <Icon name="again" />
                  Ask again
                </button>
              )}
              {!entity.props.streaming && <CopyText text={text} label="Copy the answer" />}
              {!entity.props.streaming && convId && group.turnId && (
                <Link to="/i/$convId" params={{ convId }} search={{ turn: group.turnId }} className="quiet">
                  <Icon name="inspect" />
                  Why
                </Link>
              )}
            </div>
          </article>
        );
    }
  }
  if (entity.kind === "log") return <LogLine entity={entity} retry={acts?.onAgain ?? null} />;
  return <Note entity={entity} />;
}

function CopyText({ text, label }: { text: string; label: string }) {
  const { copied, copy } = useCopy();
  return (
    <button type="button" className="quiet" aria-label={label} onClick={() => void copy(text)}>
      <Icon name={copied ? "check" : "copy"} />
      {copied ? "Copied" : "Copy"}
    </button>
  );
}

/** 0 is a profile as it was being written. */
function versionOf(version: number | undefined): string {
  return version ? `v${version}` : "as written";
}

function tookOf(entity: Entity): string {
  const from = Number(entity.createdAtMs ?? 0);
  const to = Number(entity.updatedAtMs ?? 0);
  return from && to > from ? ` for ${duration(to - from)}` : "";
}

/** Who answered, always there and never loud; time and tokens on hover and focus. */
function By({ attribution, profiles }: { attribution: Attribution; profiles: ProfileListItem[] }) {
  const { runtimeKey, profileVersion, model, usage, durationMs, stopReason } = attribution;
  if (!runtimeKey) return null;
  const profile = profiles.find((item) => item.slug === runtimeKey);
  const changed = profile?.version !== undefined && profileVersion && profile.version !== profileVersion;
  const more = [
    usage && `${usage.inputTokens ?? 0} tokens in, ${usage.outputTokens ?? 0} out`,
    durationMs && duration(Number(durationMs)),
    stopReason === "interrupted" && "stopped",
  ].filter(Boolean);
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what is shown on hover is shown on focus
    <p className="by" tabIndex={0}>
      <span>
        {profile?.display_name || runtimeKey} {versionOf(profileVersion)}
      </span>
      {changed && <span className="by-mark">now v{profile?.version}</span>}
      <span>{model}</span>
      {more.length > 0 && <span className="by-more">{more.join(", ")}</span>}
    </p>
  );
}

function LogLine({ entity, retry }: { entity: Entity; retry: (() => void) | null }) {
  const fields = (entity.props.fields as { code?: string; retryable?: boolean } | undefined) ?? {};
  const isError = entity.props.level === "error";
  const details = JSON.stringify(entity.props.fields ?? {}, null, 2);
  return (
    <div className="entry log" data-level={String(entity.props.level)}>
      <p>
        {entity.props.level !== "info" && <Icon name="alert" />}
        <span>{String(entity.props.message)}</span>
        {isError && retry && (
          <button type="button" className="quiet" onClick={retry}>
            <Icon name="again" />
            Retry
          </button>
        )}
      </p>
      {fields.code && (
        <details>
          <summary>Details</summary>
          <pre>{details}</pre>
        </details>
      )}
    </div>
  );
}

/** What has no form of its own: named, and there when one looks. */
function Note({ entity }: { entity: Entity }) {
  const title = entity.kind === "agent_mode" ? modeOf(entity) : entity.kind.replaceAll("_", " ");
  return (
    <details className="entry note">
      <summary>{title}</summary>
      <pre>{JSON.stringify(entity.props, null, 2)}</pre>
    </details>
  );
}

function modeOf(entity: Entity): string {
  const data = (entity.props.data as { from?: string; to?: string } | undefined) ?? {};
  return data.to ? `Mode: ${data.from ? `${data.from} → ` : ""}${data.to}` : "Mode";
}
