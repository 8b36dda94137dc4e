// "May I go home?": what runs, whether it is well, what changed, and what needs a person.

import { useQuery } from "@tanstack/react-query";
import { Refusal } from "../api";
import { Checks } from "./checks";
import { Recent, Troubles } from "./log";
import { sum } from "./metrics";
import { plotsOf } from "./plots";
import { metrics, samples } from "./queries";
import { Counts, Health, Settings } from "./server";
import { Packet, Snapshots } from "./snapshots";

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
              <Plots />
              {counted.data && <Counts metrics={counted.data} />}
              <Troubles />
              {counted.data && <Recent revision={sum(counted.data, "collodi_registry_revision")} />}
              <Checks />
              <Snapshots />
              <Packet />
              <Settings />
            </>
          )}
        </div>
      </div>
    </main>
  );
}

function Plots() {
  const found = useQuery(samples);
  return (
    <section aria-label="The last hour">
      <h2>The last hour</h2>
      <div className="plots">
        {plotsOf(found.data ?? []).map(({ name, now, most, lines, bad }) => (
          <figure key={name} className="plot" data-bad={bad}>
            <figcaption>
              <span>{name}</span>
              <strong>{now}</strong>
            </figcaption>
            <svg
              viewBox="0 0 100 30"
              preserveAspectRatio="none"
              role="img"
              aria-label={`${name}: now ${now}, at most ${most}`}
            >
              {lines.map((points) => (
                <polyline key={points} points={points} vectorEffect="non-scaling-stroke" />
              ))}
            </svg>
            <p className="hint">at most {most}</p>
          </figure>
        ))}
      </div>
    </section>
  );
}
