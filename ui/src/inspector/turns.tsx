// Why did it say that? What the model was sent, what came back, and under what it ran.

import { useQuery } from "@tanstack/react-query";
import { useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { exact, relative } from "../time";
import { type Marked, runtimeOf, stepsOf, type Turn, textOf, turnsOf, wordsOf } from "./phases";
import { type Block, explained, type Runtime, turn, turns } from "./queries";

export function Turns({ convId }: { convId: string }) {
  const found = useQuery(turns(convId));
  const { turn: asked } = useSearch({ strict: false }) as { turn?: string };
  const [chosen, setChosen] = useState<string | null>(asked ?? null);
  const all = turnsOf(found.data ?? []);
  const open = all.find((item) => item.turnId === chosen) ?? all[0];
  if (found.isError) return <p className="hint">The turns cannot be read: {found.error.message}.</p>;
  if (!open) return <p className="hint">No turn yet.</p>;
  return (
    <div className="turns">
      <ol className="turn-list" aria-label="Turns">
        {all.map((item, at) => (
          <li key={item.turnId}>
            <button
              type="button"
              className="turn-item"
              aria-pressed={item.turnId === open.turnId}
              onClick={() => setChosen(item.turnId)}
            >
              <span>Turn {all.length - at}</span>
              <span className="list-meta">
                <span>{item.runtimeKey}</span>
                <time title={exact(item.beganMs)}>{relative(item.beganMs)}</time>
              </span>
            </button>
          </li>
        ))}
      </ol>
      <Detail key={open.turnId} convId={convId} turn={open} />
    </div>
  );
}

function Detail({ convId, turn: of }: { convId: string; turn: Turn }) {
  const found = useQuery(turn(convId, of.sessionId, of.turnId));
  const steps = stepsOf(found.data ?? []);
  const runtime = runtimeOf(found.data ?? []);
  return (
    <div className="turn-detail">
      <p className="hint">
        Turn <code>{of.turnId}</code>
      </p>
      {steps.map(({ phase, blocks, gone, notes }, at) => (
        <section key={`${phase.phase} ${phase.created_at_ms}`} className="phase" aria-label={wordsOf(phase.phase)}>
          <header>
            <h2>{wordsOf(phase.phase)}</h2>
            <time title={exact(phase.created_at_ms)}>
              {at === 0
                ? relative(phase.created_at_ms)
                : `+${phase.created_at_ms - (steps[0]?.phase.created_at_ms ?? 0)} ms`}
            </time>
          </header>
          <Blocks blocks={blocks} folds={at > 0} />
          {gone.length > 0 && (
            <ul className="blocks">
              {gone.map((block) => (
                <BlockLine key={block.id} block={block} mark="gone" />
              ))}
            </ul>
          )}
          {notes.length > 0 && (
            <details>
              <summary>{at === 0 ? "Data of the turn" : "What else changed"}</summary>
              <dl className="notes">
                {notes.map(([key, value]) => (
                  <div key={key}>
                    <dt>{key}</dt>
                    <dd>{typeof value === "string" ? value : JSON.stringify(value, null, 2)}</dd>
                  </div>
                ))}
              </dl>
            </details>
          )}
        </section>
      ))}
      {runtime?.profile && <Provenance runtime={runtime} />}
    </div>
  );
}

/** What is as it was before is folded away. */
function Blocks({ blocks, folds }: { blocks: Marked[]; folds: boolean }) {
  const same = folds ? blocks.filter(({ mark }) => mark === "same") : [];
  const shown = folds ? blocks.filter(({ mark }) => mark !== "same") : blocks;
  return (
    <>
      {same.length > 0 && (
        <details className="same">
          <summary>
            {same.length} {same.length === 1 ? "block" : "blocks"} as before
          </summary>
          <ul className="blocks">
            {same.map(({ block }) => (
              <BlockLine key={block.id} block={block} mark="same" />
            ))}
          </ul>
        </details>
      )}
      <ul className="blocks">
        {shown.map(({ block, mark }) => (
          <BlockLine key={block.id} block={block} mark={mark} />
        ))}
        {folds && shown.length === 0 && <li className="hint">Nothing new.</li>}
      </ul>
    </>
  );
}

function BlockLine({ block, mark }: { block: Block; mark: Marked["mark"] | "gone" }) {
  const from = block.metadata?.["geppetto.middleware@v1"] ?? (block.metadata?.["geppetto.agentmode@v1"] && "agentmode");
  return (
    <li className="block" data-mark={mark}>
      <p className="block-head">
        <span className="block-kind">{block.kind.replaceAll("_", " ")}</span>
        {mark !== "same" && <span className="block-mark">{mark}</span>}
        {from !== undefined && <span>by {String(from)}</span>}
      </p>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached with the keyboard */}
      <pre tabIndex={0}>{textOf(block)}</pre>
    </li>
  );
}

/** What it ran under, field by field, with everybody who had a say. */
function Provenance({ runtime }: { runtime: Runtime }) {
  const isStored = (runtime.profile_version ?? 0) > 0;
  const found = useQuery({ ...explained(runtime), enabled: isStored });
  const other = found.data && found.data.fingerprint !== runtime.fingerprint;
  return (
    <section className="phase" aria-label="What it ran under">
      <header>
        <h2>What it ran under</h2>
        <span>
          {runtime.profile} {isStored ? `v${runtime.profile_version}` : "as it was being written"}
        </span>
      </header>
      <p className="hint mono">{runtime.fingerprint}</p>
      {other && (
        <p className="note-bar">
          The fingerprint is not that of the profile alone: the request had overrides, or the operator's settings were
          others.
        </p>
      )}
      {found.isError && <p className="hint">It cannot be explained: {found.error.message}.</p>}
      {found.data && (
        <div className="wide">
          <table className="settings">
            <thead>
              <tr>
                <th scope="col">Field</th>
                <th scope="col">Value</th>
                <th scope="col">Said by</th>
              </tr>
            </thead>
            <tbody>
              {found.data.fields.map(({ field, value, said }) => (
                <tr key={field}>
                  <th scope="row">{field}</th>
                  <td>
                    <pre>{shown(value)}</pre>
                  </td>
                  <td>
                    {said.map((one, at) => (
                      <span key={one.by} className="said" data-counts={at === said.length - 1} title={shown(one.value)}>
                        {one.by.replaceAll("-", " ")}
                      </span>
                    ))}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function shown(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
