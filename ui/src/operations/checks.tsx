// Go or no-go: the checks of the checklist, a line each, as their findings come.

import { useState } from "react";
import { BASE, saidOf } from "../api";
import { Icon } from "../icons";
import { duration } from "../time";
import { Command } from "./command";
import { check, type Finding, type Verdict } from "./queries";

type State =
  | { state: "idle" }
  | { state: "running" }
  | { state: "done"; verdict: Verdict }
  | { state: "failed"; why: string };

const ICONS = { pass: "check", fail: "close", inconclusive: "help", error: "alert" } as const;

export function Checks() {
  const [state, setState] = useState<State>({ state: "idle" });
  const [findings, setFindings] = useState<Finding[]>([]);
  const run = async () => {
    setFindings([]);
    setState({ state: "running" });
    try {
      const verdict = await check((finding) => setFindings((now) => [...now, finding]));
      setState({ state: "done", verdict });
    } catch (error) {
      setState({ state: "failed", why: saidOf(error) });
    }
  };
  const target = location.origin + BASE.replace(/\/$/, "");
  return (
    <section aria-label="The operator's checklist">
      <h2>The operator's checklist</h2>
      <p className="hint">
        Lines 6 to 16: profiles, schemas, refusals, writes and chats of this server. Two profiles and two conversations
        are made and deleted again; three short prompts go to the model.
      </p>
      <div className="checks-row">
        <button
          type="button"
          className="button primary"
          disabled={state.state === "running"}
          onClick={() => void run()}
        >
          {state.state === "running" ? "Checking" : "Run the checks"}
        </button>
        <p
          role="status"
          className="verdict"
          data-verdict={state.state === "done" ? state.verdict.verdict : state.state}
        >
          {state.state === "done" &&
            (state.verdict.verdict === "go" ? "Go: every check holds" : `No-go: ${state.verdict.reasons.join(", ")}`)}
          {state.state === "failed" && state.why}
        </p>
      </div>
      {findings.length > 0 && (
        <ol className="log-lines" aria-label="Findings">
          {findings.map((finding) => (
            <li key={finding.code}>
              <details>
                <summary>
                  <span className="finding" data-verdict={finding.verdict}>
                    <Icon name={ICONS[finding.verdict]} />
                    {finding.verdict}
                  </span>
                  <span className="finding-line">{finding.line > 0 ? `line ${finding.line}` : ""}</span>
                  <span>{finding.proves}</span>
                  <span className="finding-time">{duration(finding.took_ms)}</span>
                </summary>
                <p className="hint">{finding.evidence}</p>
                {finding.verdict !== "pass" && <p>What to do: {finding.hint}</p>}
              </details>
            </li>
          ))}
        </ol>
      )}
      <h3>The command that does the same</h3>
      <Command text={`collodi ops check --target ${target}`} />
    </section>
  );
}
