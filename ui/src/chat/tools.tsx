// Calls of tools: one line each that opens to input and result; several in a row fold into one.

import { Icon } from "../icons";
import { duration } from "../time";
import type { Entity } from "./frames";

interface Props {
  calls: Entity[];
  results: ReadonlyMap<string, Entity>;
}

export function Tools({ calls, results }: Props) {
  if (calls.length === 1 && calls[0]) return <Call call={calls[0]} result={results.get(calls[0].id)} />;
  const open = calls.some((call) => call.props.done === false);
  return (
    <details className="entry tools">
      <summary>
        <Icon name="tool" />
        {calls.length} tool calls{open ? ", running" : ""}
      </summary>
      {calls.map((call) => (
        <Call key={call.id} call={call} result={results.get(call.id)} />
      ))}
    </details>
  );
}

function Call({ call, result }: { call: Entity; result: Entity | undefined }) {
  const name = String(call.props.name ?? "tool");
  const error = String(call.props.error || result?.props.error || "");
  const state = error ? "failed" : call.props.done ? "done" : "running";
  const took = Number(call.updatedAtMs ?? 0) - Number(call.createdAtMs ?? 0);
  return (
    <details className="entry tool" data-state={state}>
      <summary>
        <Icon name="tool" />
        <span className="tool-name">{name}</span>
        <span className="tool-input">{brief(call.props.input)}</span>
        <span className="tool-state">
          {state}
          {state !== "running" && took > 0 ? `, ${duration(took)}` : ""}
        </span>
      </summary>
      <h3>Input</h3>
      <pre>{JSON.stringify(call.props.input ?? {}, null, 2)}</pre>
      {(error || result) && <h3>{error ? "Error" : "Result"}</h3>}
      {(error || result) && <pre>{error || shown(result?.props.result)}</pre>}
    </details>
  );
}

/** What it was asked, in few words. */
function brief(input: unknown): string {
  if (typeof input !== "object" || input === null) return "";
  const words = Object.values(input).map((value) => (typeof value === "string" ? value : JSON.stringify(value)));
  const text = words.join(" ").replaceAll(/\s+/g, " ");
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}

function shown(result: unknown): string {
  return typeof result === "string" ? result : JSON.stringify(result, null, 2);
}
