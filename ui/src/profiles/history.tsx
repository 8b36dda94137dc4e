// What a profile was: a log, any two versions compared, and one step back.

import { useQuery } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { saidOf } from "../api";
import { Complaint } from "../parts";
import { exact, relative } from "../time";
import { Diff } from "./diff";
import type { Document } from "./draft";
import { compared, history, restore } from "./queries";

interface Props {
  slug: string;
  version: number;
  dirty: boolean;
  onRestored: (document: Document) => Promise<void>;
}

export function HistorySection({ slug, version, dirty, onRestored }: Props) {
  const changes = useQuery(history(slug));
  const [pair, setPair] = useState<{ from: number; to: number } | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const restoring = useRef(false);
  const goBack = async (to: number) => {
    if (restoring.current) return;
    restoring.current = true;
    setFailure(null);
    try {
      await onRestored(await restore(slug, to, version));
      setPair(null);
    } catch (error) {
      setFailure(saidOf(error));
    } finally {
      restoring.current = false;
    }
  };
  return (
    <section className="section" id="history" aria-label="History">
      <h2 className="legend">History</h2>
      <ol className="history">
        {changes.data?.map((change) => (
          <li key={change.change}>
            <span className="history-version">v{change.version}</span>
            <span>
              {change.operation.replaceAll("_", " ")} by {change.actor}
              {change.note ? `: ${change.note}` : ""}
            </span>
            <time title={exact(change.at_ms)}>{relative(change.at_ms)}</time>
            {change.content_hash !== "" && change.version > 1 && (
              <button
                type="button"
                className="quiet"
                onClick={() => setPair({ from: change.version - 1, to: change.version })}
              >
                What changed
              </button>
            )}
            {change.content_hash !== "" && change.version !== version && (
              <button type="button" className="quiet" onClick={() => setPair({ from: version, to: change.version })}>
                Go back to it
              </button>
            )}
          </li>
        ))}
      </ol>
      {pair && (
        <Pair
          slug={slug}
          pair={pair}
          canRestore={pair.from === version && !dirty}
          dirty={dirty}
          onRestore={() => void goBack(pair.to)}
          onClose={() => setPair(null)}
        />
      )}
      {failure && <Complaint text={failure} />}
    </section>
  );
}

function Pair(props: {
  slug: string;
  pair: { from: number; to: number };
  canRestore: boolean;
  dirty: boolean;
  onRestore: () => void;
  onClose: () => void;
}) {
  const { from, to } = props.pair;
  const [element, shown] = useState<HTMLElement | null>(null);
  const changes = useQuery(compared(props.slug, from, to));
  const seen = changes.data;
  // biome-ignore lint/correctness/useExhaustiveDependencies: once more when its text is there
  useEffect(() => {
    element?.scrollIntoView({ block: "nearest" });
  }, [element, seen, from, to]);
  return (
    // It opens below a long list: there it is.
    <div className="pair" ref={shown}>
      <h3>
        From v{from} to v{to}
      </h3>
      {changes.isError && <p className="hint">They cannot be compared: {changes.error.message}.</p>}
      {changes.data && <Diff changes={changes.data} />}
      <div className="sure-row">
        <button type="button" className="button" onClick={props.onClose}>
          Close
        </button>
        {from > to && (
          <button type="button" className="button primary" disabled={!props.canRestore} onClick={props.onRestore}>
            Restore v{to}
          </button>
        )}
      </div>
      {from > to && props.dirty && <p className="hint">Save or discard your changes first.</p>}
    </div>
  );
}
