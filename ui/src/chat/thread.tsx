// A conversation as one reads it, and what one can do with it.

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { Refusal, saidOf } from "../api";
import { DEBUG_API } from "../facts";
import { Icon } from "../icons";
import { ProblemBar } from "../parts";
import { Composer } from "./composer";
import { useEarlier } from "./earlier";
import { Empty } from "./empty";
import { Entry, groupsOf } from "./entry";
import { useFollow } from "./follow";
import { attributionOf, type Conversation, EMPTY, type Entity, isGrowing, roleOf, textOf, turnOf } from "./frames";
import { ThreadHead } from "./head";
import { LinkBar } from "./link-bar";
import { cancel, dequeue, drawn, line, profiles, select, selection, submit } from "./queries";
import type { Live } from "./store";

interface Props {
  convId: string;
  /** Absent before the first prompt. */
  live: Live | null;
  onFirst?: () => void;
  onRetry?: () => void;
}

export function Thread({ convId, live, onFirst, onRetry }: Props) {
  const client = useQueryClient();
  const conversation = live?.conversation ?? EMPTY;
  const isNew = onFirst !== undefined;
  const growing = useMemo(() => [...conversation.entities.values()].some(isGrowing), [conversation]);
  const known = useQuery({ ...profiles, refetchInterval: 30_000 });
  const selected = useQuery(selection);
  // Nothing waits where nothing was ever asked.
  const begun = !isNew && conversation.order.length > 0;
  const waiting = useQuery({ ...line(convId), enabled: begun, refetchInterval: growing ? 2_000 : false });
  const [picked, setPicked] = useState<string | null>(null);
  const [editing, setEditing] = useState<string | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [sending, setSending] = useState(0);

  const newest = useMemo(() => newestPrompt(conversation), [conversation]);
  const profile = picked ?? lastProfile(conversation) ?? selected.data?.slug ?? "";
  const running = growing || sending > 0 || waiting.data?.active != null;

  const refresh = useCallback(() => {
    void client.invalidateQueries({ queryKey: ["line", convId] });
    void client.invalidateQueries({ queryKey: ["conversations"] });
  }, [client, convId]);
  // Whether a run goes on after a message or a tool has ended, only the server knows.
  // biome-ignore lint/correctness/useExhaustiveDependencies: asked again whenever something ends or begins
  useEffect(() => {
    if (!isNew) refresh();
  }, [growing, conversation.order.length, isNew, refresh]);

  const send = async (text: string, retryTurnId?: string): Promise<boolean> => {
    setProblem(null);
    setEditing(null);
    setSending((count) => count + 1);
    try {
      await submit({ convId, text, profile, key: drawn(), retryTurnId });
      onFirst?.();
      refresh();
      return true;
    } catch (error) {
      setProblem(saidOf(error));
      return false;
    } finally {
      setSending((count) => count - 1);
    }
  };
  const stop = async () => {
    try {
      await cancel(convId);
    } catch (error) {
      // It may have ended by itself meanwhile.
      if (!(error instanceof Refusal && error.status === 409)) setProblem(saidOf(error));
    }
    refresh();
  };
  const pick = (slug: string) => {
    setPicked(slug);
    void select(slug).catch(() => undefined); // only for the next visit
  };
  const groups = useMemo(() => groupsOf(conversation), [conversation]);
  // What can be done stands once: at the newest prompt, and where its turn ended.
  const ends = useMemo(() => {
    const prompt = groups.findLast((group) => group.key.startsWith("user-"));
    const end = groups.findLast((group) => isEnd(group.entities[0]));
    return new Set([prompt?.key, end?.turnId === prompt?.turnId ? end?.key : undefined]);
  }, [groups]);
  // The same for good, so that entries need not be drawn again; what they do is always of now.
  const deeds = useRef({ onEdit: () => {}, onAgain: () => {} });
  deeds.current = {
    onEdit: () => newest && setEditing(newest.turnId),
    onAgain: () => newest && void send(newest.text, newest.turnId),
  };
  const acts = useMemo(() => ({ onEdit: () => deeds.current.onEdit(), onAgain: () => deeds.current.onAgain() }), []);
  const follow = useFollow(conversation);
  const earlier = useEarlier(groups.length);
  const items = known.data ?? [];
  return (
    <main className="thread" id="work" tabIndex={-1}>
      <ThreadHead convId={convId} conversation={conversation} isNew={isNew} />
      {live && <LinkBar link={live.link} onRetry={onRetry} />}
      <div className="scroll" ref={follow.ref}>
        <div className="entries" role="log" aria-label="Conversation" aria-live="polite" aria-busy={running}>
          {earlier.from > 0 && (
            <button type="button" className="quiet earlier" ref={earlier.ref} onClick={earlier.more}>
              Earlier messages
            </button>
          )}
          {groups.slice(earlier.from).map((group) => (
            <Entry
              key={group.key}
              group={group}
              profiles={items}
              convId={DEBUG_API ? convId : undefined}
              acts={!running && newest && ends.has(group.key) ? acts : undefined}
            />
          ))}
          {/* Its place is kept, so that nothing moves when it comes and goes. */}
          {conversation.order.length > 0 && (
            <p className="working" data-on={running && !growing} aria-hidden={!running || growing}>
              Working
            </p>
          )}
          {conversation.order.length === 0 && (isNew || live?.ready) && sending === 0 && (
            <Empty
              profile={items.find((item) => item.slug === profile)}
              isNew={isNew}
              onAsk={(text) => void send(text)}
            />
          )}
        </div>
        {follow.behind && (
          <button type="button" className="button new-text" onClick={follow.toEnd}>
            <Icon name="down" />
            New text below
          </button>
        )}
      </div>
      <div className="dock">
        {problem && <ProblemBar text={problem} onDismiss={() => setProblem(null)} />}
        {(waiting.data?.items.length ?? 0) > 0 && (
          <ul className="queue" aria-label="Prompts that wait">
            {waiting.data?.items.map((item) => (
              <li key={item.idempotency_key} className="chip">
                <span>{item.prompt}</span>
                <button
                  type="button"
                  className="quiet"
                  aria-label={`Remove the waiting prompt: ${item.prompt}`}
                  onClick={() => void dequeue(convId, item.idempotency_key).then(refresh, refresh)}
                >
                  <Icon name="close" />
                </button>
              </li>
            ))}
          </ul>
        )}
        <Composer
          convId={convId}
          profiles={items}
          profile={profile}
          running={running}
          newest={newest}
          editing={editing}
          onEdit={setEditing}
          onPick={pick}
          onSend={(text) => send(text, editing ?? undefined)}
          onStop={() => void stop()}
        />
      </div>
    </main>
  );
}

function entitiesOf(conversation: Conversation): Entity[] {
  return conversation.order.flatMap((id) => conversation.entities.get(id) ?? []);
}

/** An answer, or why there is none. */
function isEnd(entity: Entity | undefined): boolean {
  if (entity?.kind === "log") return entity.props.level === "error";
  return entity?.kind === "message" && roleOf(entity) === "assistant";
}

/** The newest prompt and its turn, which is part of its id. */
function newestPrompt(conversation: Conversation): { text: string; turnId: string } | null {
  const prompt = entitiesOf(conversation).findLast((entity) => turnOf(entity) !== undefined);
  const turnId = prompt && turnOf(prompt);
  return turnId ? { text: textOf(prompt), turnId } : null;
}

function lastProfile(conversation: Conversation): string | undefined {
  return entitiesOf(conversation)
    .map(attributionOf)
    .findLast((by) => by.runtimeKey)?.runtimeKey;
}
