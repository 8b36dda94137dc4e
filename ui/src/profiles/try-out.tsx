// A chat beside the editor that runs the profile as it is written there. Nothing of the profile is stored, and the
// conversation goes when the pane does.

import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { Refusal, saidOf } from "../api";
import { Entry, groupsOf } from "../chat/entry";
import { useFollow } from "../chat/follow";
import { isGrowing, EMPTY as NOTHING } from "../chat/frames";
import { useLive } from "../chat/live";
import { cancel, drawn, remove } from "../chat/queries";
import { Icon } from "../icons";
import { ProblemBar } from "../parts";
import type { Draft } from "./draft";
import { tryOut } from "./queries";

interface Props {
  slug: string;
  draft: Draft;
  onClose: () => void;
}

/** Where the tries of this tab are remembered until they are gone. */
const KEPT = "tries";

function remembered(): string[] {
  return JSON.parse(sessionStorage.getItem(KEPT) ?? "[]") as string[];
}

function remember(ids: string[]): void {
  sessionStorage.setItem(KEPT, JSON.stringify(ids));
}

/** What is said in a try is not worth keeping. */
async function forget(convId: string): Promise<void> {
  for (let time = 0; time < 20; time++) {
    try {
      await remove(convId);
      break;
    } catch (error) {
      // While something runs it cannot go: the run is stopped, which takes a moment.
      if (!(error instanceof Refusal && error.status === 409)) break;
      await cancel(convId).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  remember(remembered().filter((other) => other !== convId));
}

export function TryOut({ slug, draft, onClose }: Props) {
  const [convId, setConvId] = useState(drawn);
  const [begun, setBegun] = useState(false);
  useEffect(() => {
    for (const left of remembered()) void forget(left);
  }, []);
  const again = useCallback(() => {
    setConvId(drawn());
    setBegun(false);
  }, []);
  return (
    <aside className="try" aria-label="Try it">
      <header className="try-head">
        <h2>Try it</h2>
        {begun && (
          <button type="button" className="quiet" onClick={again}>
            <Icon name="again" />
            Start over
          </button>
        )}
        <button type="button" className="quiet" onClick={onClose} aria-label="Close the try">
          <Icon name="close" />
        </button>
      </header>
      <Talk key={convId} slug={slug} draft={draft} convId={convId} begun={begun} onBegin={() => setBegun(true)} />
    </aside>
  );
}

interface TalkProps {
  slug: string;
  draft: Draft;
  convId: string;
  begun: boolean;
  onBegin: () => void;
}

function Talk({ slug, draft, convId, begun, onBegin }: TalkProps) {
  const { state } = useLive(begun ? convId : null);
  const conversation = state?.conversation ?? NOTHING;
  const growing = useMemo(() => [...conversation.entities.values()].some(isGrowing), [conversation]);
  const groups = useMemo(() => groupsOf(conversation), [conversation]);
  const [text, setText] = useState("");
  const [problem, setProblem] = useState<string | null>(null);
  const follow = useFollow(conversation);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another draft may be valid
  useEffect(() => setProblem(null), [draft]);
  const wasBegun = useRef(false);
  wasBegun.current ||= begun;
  useEffect(() => {
    // Whoever closes the page in the middle of a try has no time for more; a reload finds what is left.
    const leave = () => {
      if (wasBegun.current) void remove(convId, true).catch(() => undefined);
    };
    window.addEventListener("pagehide", leave);
    return () => {
      window.removeEventListener("pagehide", leave);
      if (wasBegun.current) void forget(convId);
    };
  }, [convId]);
  const send = async () => {
    const prompt = text.trim();
    if (!prompt) return;
    setProblem(null);
    setText("");
    try {
      remember([...new Set([...remembered(), convId])]);
      await tryOut(slug, draft, convId, prompt, drawn());
      onBegin();
    } catch (error) {
      setText((now) => now || prompt);
      const first = error instanceof Refusal ? error.problems[0] : undefined;
      setProblem(first ? `The profile is not valid yet: ${first.field}: ${first.message}` : saidOf(error));
    }
  };
  const stop = () => void cancel(convId).catch(() => undefined);
  return (
    <>
      <div className="scroll" ref={follow.ref}>
        <div className="entries" role="log" aria-label="Try" aria-live="polite" aria-busy={growing}>
          {groups.map((group) => (
            <Entry key={group.key} group={group} profiles={[]} />
          ))}
          {groups.length === 0 && (
            <p className="hint">Answers come from the profile as it is written here, saved or not.</p>
          )}
        </div>
      </div>
      <div className="dock">
        {problem && <ProblemBar text={problem} />}
        <form
          className="composer"
          onSubmit={(event) => {
            event.preventDefault();
            if (growing && !text.trim()) stop();
            else void send();
          }}
        >
          <textarea
            rows={2}
            value={text}
            aria-label="Prompt to try"
            placeholder="Ask..."
            onChange={(event) => setText(event.target.value)}
            onKeyDown={(event) => {
              if (event.nativeEvent.isComposing) return;
              if (event.key === "Enter" && !event.shiftKey) {
                event.preventDefault();
                void send();
              } else if (event.key === "Escape" && growing) stop();
            }}
          />
          <div className="composer-row">
            <button type="submit" className="button primary send" disabled={!growing && !text.trim()}>
              <Icon name={growing && !text.trim() ? "stop" : "send"} />
              {growing && !text.trim() ? "Stop" : "Send"}
            </button>
          </div>
        </form>
      </div>
    </>
  );
}
