// The server itself: whether it is ready, what it counted, how it is set.

import { useQuery } from "@tanstack/react-query";
import { Icon } from "../icons";
import { type Metrics, sum } from "./metrics";
import { ready, release, settings } from "./queries";

export function Health() {
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
          {[what.data.product, what.data.release, what.data.revision].filter(Boolean).join(" ")}, contract{" "}
          {what.data.contract}
        </p>
      )}
    </section>
  );
}

export function Counts({ metrics }: { metrics: Metrics }) {
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

export function Settings() {
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
