// A thin bar while the server is away; nothing is lost meanwhile.

import { useEffect, useState } from "react";
import type { Link } from "./store";

export function LinkBar({ link, onRetry }: { link: Link; onRetry: (() => void) | undefined }) {
  const [now, setNow] = useState(() => performance.now());
  const broken = link.state === "broken";
  useEffect(() => {
    if (!broken) return;
    const timer = setInterval(() => setNow(performance.now()), 250);
    return () => clearInterval(timer);
  }, [broken]);
  if (link.state !== "broken") return null;
  const left = Math.max(0, Math.ceil((link.at - now) / 1000));
  return (
    <div className="link-bar" role="status">
      The connection is down. Next try in {left} s.
      <button type="button" className="quiet" onClick={onRetry}>
        Try now
      </button>
    </div>
  );
}
