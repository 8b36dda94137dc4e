// "May I go home?": what runs, whether it is well, what changed, and what needs a person.

import { queryOptions, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { ask, askJson, BASE, Refusal, type Release } from "../api";
import { Icon } from "../icons";
import type { Change } from "../profiles/queries";
import { exact, relative } from "../time";
import { type Metrics, parsed, sum } from "./metrics";

interface Line {
  at_ms: number;
  level: string;
  target: string;
  message: string;
  [field: string]: unknown;
}

interface Setting {
  name: string;
  value: unknown;
  origin: string;
}

/** Changes that are shown, and log lines. */
const SHOWN = 20;

const release = queryOptions({ queryKey: ["release"], queryFn: () => askJson<Release>("api/chat/release") });
const ready = queryOptions({
  queryKey: ["ready"],
  queryFn: async () => {
    const response = await fetch(`${BASE}readyz`);
    return (await response.json()) as { status: string; registry: string; chat: string };
  },
  refetchInterval: 5_000,
});
const metrics = queryOptions({
  queryKey: ["metrics"],
  queryFn: async () => parsed(await (await ask("metrics")).text()),
  refetchInterval: 5_000,
});
const settings = queryOptions({ queryKey: ["settings"], queryFn: () => askJson<Setting[]>("api/ops/config") });
const logs = queryOptions({
  queryKey: ["logs"],
  queryFn: async () => {
    const of = (level: string) => askJson<Line[]>(`api/ops/logs?limit=${SHOWN}&level=${level}`);
    const [errors, warnings] = await Promise.all([of("error"), of("warn")]);
    return [...errors, ...warnings].sort((one, other) => other.at_ms - one.at_ms).slice(0, SHOWN);
  },
  refetchInterval: 5_000,
});
const changes = (revision: number) =>
  queryOptions({
    queryKey: ["audit", revision],
    queryFn: () => askJson<Change[]>(`api/chat/audit?limit=${SHOWN}&after=${Math.max(0, revision - SHOWN)}`),
  });

export function OperationsPage() {
  const counted = useQuery(metrics);
  const refusal = counted.error instanceof Refusal && counted.error.status === 403 ? counted.error.message : null;
  return (
    <main className="thread wide-work" id="work" tabIndex={-1}>
      <header className="thread-head">
        <h1 className="thread-title">Status</h1>
      </header>
      <div className="scroll">
        <div className="status">
          <Health />
          {refusal ? (
            <p className="hint">The rest of this page is for operators: {refusal}.</p>
          ) : (
            <>
              {counted.data && <Counts metrics={counted.data} />}
              <Troubles />
              {counted.data && <Recent revision={sum(counted.data, "collodi_registry_revision")} />}
              <Checklist />
              <Settings />
            </>
          )}
        </div>
      </div>
    </main>
  );
}

function Health() {
  const state = useQuery(ready);
  const what = useQuery(release);
  const word = state.isError ? "away" : (state.data?.status ?? "");
  return (
    <section aria-label="Server">
      <h2>Server</h2>
      <p className="health" data-well={word === "ready"} role="status">
        {word === "ready" ? <Icon name="check" /> : <Icon name="alert" />}
        {word === "ready" ? "Ready: both databases answer" : word === "away" ? "The server does not answer" : word}
      </p>
      {state.data && word !== "ready" && (
        <p className="hint">
          Registry {state.data.registry}, chats {state.data.chat}
        </p>
      )}
      {what.data && (
        <p className="hint">
          {what.data.product} {what.data.release} {what.data.revision}, contract {what.data.contract}
        </p>
      )}
    </section>
  );
}

function Counts({ metrics }: { metrics: Metrics }) {
  const requests = sum(metrics, "collodi_http_requests_total");
  const failed = sum(metrics, "collodi_http_requests_total", 'status="5xx"');
  const facts: [string, number, boolean][] = [
    ["Profiles", sum(metrics, "collodi_profiles"), false],
    ["Revision", sum(metrics, "collodi_registry_revision"), false],
    ["Conversations in memory", sum(metrics, "collodi_conversations"), false],
    ["Turns since the start", sum(metrics, "collodi_turns_started_total"), false],
    ["Turns that failed", sum(metrics, "collodi_turns_ended_total", 'outcome="failed"'), true],
    ["Requests since the start", requests, false],
    ["Requests that failed", failed, true],
  ];
  return (
    <section aria-label="Counts">
      <h2>Since the start</h2>
      <dl className="counts">
        {facts.map(([name, value, bad]) => (
          <div key={name} data-bad={bad && value > 0}>
            <dt>{name}</dt>
            <dd>{value.toLocaleString()}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function Troubles() {
  const lines = useQuery(logs);
  return (
    <section aria-label="Warnings and errors">
      <h2>Warnings and errors</h2>
      {lines.data?.length === 0 && <p className="hint">None are kept in memory.</p>}
      <ul className="log-lines">
        {lines.data?.map((line, at) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: lines have no names
          <li key={`${line.at_ms} ${at}`} data-level={line.level}>
            <details>
              <summary>
                <time title={exact(line.at_ms)}>{relative(line.at_ms)}</time>
                <span className="log-level">{line.level}</span>
                <span>{String(line.error ?? line.message)}</span>
              </summary>
              <pre>{JSON.stringify(line, null, 2)}</pre>
            </details>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Recent({ revision }: { revision: number }) {
  const found = useQuery(changes(revision));
  return (
    <section aria-label="Recent changes of profiles">
      <h2>Recent changes of profiles</h2>
      <ul className="log-lines">
        {found.data?.toReversed().map((change) => (
          <li key={change.change}>
            <p>
              <time title={exact(change.at_ms)}>{relative(change.at_ms)}</time>
              <span>
                {change.operation.replaceAll("_", " ")} {change.slug ?? change.registry}
                {change.version ? ` v${change.version}` : ""} by {change.actor}
                {change.note ? `: ${change.note}` : ""}
              </span>
            </p>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** The commands that prove it, ready to be taken. */
function Checklist() {
  const target = location.origin + BASE.replace(/\/$/, "");
  return (
    <section aria-label="The operator's checklist">
      <h2>The operator's checklist</h2>
      <p className="hint">
        Go or no-go with evidence, line by line. The checks make two profiles and delete them again.
      </p>
      <Command text={`collodi ops check --target ${target}`} />
      <h3>When something is wrong</h3>
      <Command text={`collodi ops packet --target ${target} --profile default --to .`} />
    </section>
  );
}

function Command({ text }: { text: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return (
    <div className="code">
      <button type="button" className="quiet code-copy" aria-label="Copy the command" onClick={() => void copy()}>
        <Icon name={copied ? "check" : "copy"} />
        {copied ? "Copied" : "Copy"}
      </button>
      <pre>{text}</pre>
    </div>
  );
}

function Settings() {
  const found = useQuery(settings);
  const own = found.data?.filter((setting) => setting.origin !== "default") ?? [];
  return (
    <section aria-label="Settings">
      <h2>Settings that are not the default</h2>
      {found.isSuccess && own.length === 0 && <p className="hint">All are.</p>}
      <table className="settings">
        <tbody>
          {own.map((setting) => (
            <tr key={setting.name}>
              <th scope="row">{setting.name}</th>
              <td>{typeof setting.value === "string" ? setting.value : JSON.stringify(setting.value)}</td>
              <td>{setting.origin}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
