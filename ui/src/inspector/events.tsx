// Frames as they come, to be filtered and paused; and the pauses of step mode.

import { useEffect, useRef, useState } from "react";
import { Refusal, saidOf } from "../api";
import { Search } from "../parts";
import { events, goOn, type Held, stepMode } from "./queries";

/** Between two looks, in milliseconds. */
const EVERY = 1_000;
/** Frames that are shown; what is older has left the page. */
const SHOWN = 1_000;

export function Events({ convId }: { convId: string }) {
  const [paused, setPaused] = useState(false);
  const { held, failure } = useHeld(convId, paused);
  const [words, setWords] = useState("");
  const [kind, setKind] = useState("");
  const kinds = [...new Set(held.map((one) => one.type))].sort();
  const wanted = words.trim().toLowerCase();
  const found = held.filter(
    (one) => (!kind || one.type === kind) && (!wanted || JSON.stringify(one.frame).toLowerCase().includes(wanted)),
  );
  return (
    <div className="events">
      <div className="filters">
        <Search label="Filter events" value={words} onChange={setWords} />
        <select aria-label="Type of event" value={kind} onChange={(event) => setKind(event.target.value)}>
          <option value="">All types</option>
          {kinds.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
        <button type="button" className="button" aria-pressed={paused} onClick={() => setPaused(!paused)}>
          {paused ? "Go on" : "Pause"}
        </button>
      </div>
      {failure === null && <Steps convId={convId} held={held} />}
      {failure && <p className="hint">{failure}</p>}
      <p className="hint" role="status">
        {found.length} of {held.length} events{paused ? ", paused" : ""}
      </p>
      <ol className="log-lines" reversed>
        {found.toReversed().map((one) => (
          <li key={one.seq}>
            <details>
              <summary>
                <span className="event-seq">{one.seq}</span>
                <span className="event-type">{one.type}</span>
                <span className="event-text">{briefly(one)}</span>
              </summary>
              <pre>{JSON.stringify(one.frame.event, null, 2)}</pre>
            </details>
          </li>
        ))}
      </ol>
    </div>
  );
}

/** What the conversation still holds, and what comes; by their numbers, so that nothing is shown twice. */
function useHeld(convId: string, paused: boolean): { held: Held[]; failure: string | null } {
  const [held, setHeld] = useState<Held[]>([]);
  const [failure, setFailure] = useState<string | null>(null);
  const last = useRef(0);
  useEffect(() => {
    if (paused) return;
    const gone = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = async () => {
      try {
        const fresh = await events(convId, last.current, gone.signal);
        const newest = fresh.at(-1);
        if (newest) {
          last.current = newest.seq;
          setHeld((now) => [...now, ...fresh].slice(-SHOWN));
        }
        setFailure(null);
      } catch (error) {
        if (gone.signal.aborted) return;
        const away = error instanceof Refusal && error.status === 404;
        setFailure(away ? "It is not loaded: events appear when it is asked something." : saidOf(error));
      }
      timer = setTimeout(look, EVERY);
    };
    void look();
    return () => {
      gone.abort();
      clearTimeout(timer);
    };
  }, [convId, paused]);
  return { held, failure };
}

function briefly({ frame }: Held): string {
  const data = (frame.event.data ?? {}) as Record<string, unknown>;
  const text = data.delta ?? data.text ?? data.content ?? data.message ?? data.summary ?? data.name;
  return typeof text === "string" ? text : "";
}

function Steps({ convId, held }: { convId: string; held: Held[] }) {
  const [said, setSaid] = useState("");
  const [gone, setGone] = useState<string | null>(null);
  const pause = held.findLast((one) => one.type === "debugger.pause");
  const data = (pause?.frame.event.data ?? {}) as { pauseId?: string; summary?: string; deadlineMs?: number | string };
  const after = pause && held.some((one) => one.seq > pause.seq && one.type !== "log");
  const isOpen = data.pauseId !== undefined && data.pauseId !== gone && !after && Number(data.deadlineMs) > Date.now();
  const act = async (work: Promise<unknown>, words: string) => {
    try {
      await work;
      setSaid(words);
    } catch (error) {
      setSaid(saidOf(error));
    }
  };
  const resume = async (pauseId: string) => {
    await act(goOn(convId, pauseId), "It goes on.");
    setGone(pauseId);
  };
  return (
    <div className="steps-row">
      <button
        type="button"
        className="button"
        onClick={() => void act(stepMode(convId, true), "It will pause around tools.")}
      >
        Pause around tools
      </button>
      <button type="button" className="button" onClick={() => void act(stepMode(convId, false), "It runs through.")}>
        Run through
      </button>
      {isOpen && (
        <button type="button" className="button primary" onClick={() => void resume(data.pauseId ?? "")}>
          Continue: {data.summary}
        </button>
      )}
      <span role="status" className="hint">
        {said}
      </span>
    </div>
  );
}
