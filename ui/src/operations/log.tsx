// What went wrong of late, and what was changed.

import { useQuery } from "@tanstack/react-query";
import { exact, relative } from "../time";
import { changes, logs } from "./queries";

export function Troubles() {
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

export function Recent({ revision }: { revision: number }) {
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
