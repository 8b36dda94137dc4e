// Copies of the databases, with their age; one more at a click. And the archive for whoever helps.

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { saidOf } from "../api";
import { save } from "../chat/export";
import { profiles } from "../chat/queries";
import { Complaint } from "../parts";
import { exact, relative } from "../time";
import { packet, snapshots, takeSnapshot } from "./queries";

/** Work that a button starts: whether it goes on, and what went wrong. */
function useWork(): { busy: boolean; failure: string | null; start: (work: () => Promise<void>) => void } {
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<string | null>(null);
  const start = (work: () => Promise<void>) => {
    setBusy(true);
    setFailure(null);
    work()
      .catch((error: unknown) => setFailure(saidOf(error)))
      .finally(() => setBusy(false));
  };
  return { busy, failure, start };
}

export function Snapshots() {
  const client = useQueryClient();
  const found = useQuery(snapshots);
  const { busy, failure, start } = useWork();
  const take = async () => {
    await takeSnapshot();
    await client.invalidateQueries({ queryKey: ["snapshots"] });
  };
  return (
    <section aria-label="Snapshots">
      <h2>Snapshots</h2>
      <div className="checks-row">
        <button type="button" className="button" disabled={busy} onClick={() => start(take)}>
          {busy ? "Taking a snapshot" : "Take a snapshot"}
        </button>
        {failure && <Complaint text={failure} />}
      </div>
      {found.data?.length === 0 && <p className="hint">None in the server's folder.</p>}
      <ul className="log-lines">
        {found.data?.map((one) => (
          <li key={one.name}>
            <p>
              <time title={exact(one.taken_at_ms)}>{relative(one.taken_at_ms)}</time>
              <span className="mono">{one.name}</span>
              <span>{one.databases.map(({ file, bytes }) => `${file} ${sizeOf(bytes)}`).join(", ")}</span>
            </p>
          </li>
        ))}
      </ul>
    </section>
  );
}

export function Packet() {
  const all = useQuery(profiles).data ?? [];
  const [chosen, setChosen] = useState("");
  const { busy, failure, start } = useWork();
  const slug = chosen || all.find((item) => item.is_default)?.slug || all[0]?.slug || "";
  const make = async () => save(`collodi-packet-${slug}.tar.gz`, "application/gzip", await packet(slug));
  return (
    <section aria-label="Escalation packet">
      <h2>When something is wrong</h2>
      <p className="hint">
        One archive for whoever helps: the profile with its history, schemas, settings, counters and the newest log
        lines, secrets masked. Read it before you send it.
      </p>
      <div className="checks-row">
        <label className="list-filter">
          Profile
          <select value={slug} onChange={(event) => setChosen(event.target.value)}>
            {all.map((item) => (
              <option key={item.slug}>{item.slug}</option>
            ))}
          </select>
        </label>
        <button type="button" className="button" disabled={busy || !slug} onClick={() => start(make)}>
          {busy ? "Making the packet" : "Download the packet"}
        </button>
        {failure && <Complaint text={failure} />}
      </div>
    </section>
  );
}

function sizeOf(bytes: number): string {
  if (bytes < 1_000_000) return `${Math.max(1, Math.round(bytes / 1_000))} kB`;
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}
