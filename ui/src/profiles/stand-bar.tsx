// Where one stands, always at the bottom: no changes, so many and valid, or so many problems.

import { Icon } from "../icons";
import type { Check } from "./check";

export function StandBar(props: {
  check: Check;
  broken: boolean;
  failure: string | null;
  isNew: boolean;
  canSave: boolean;
  onReview: () => void;
  onDiscard: () => void;
}) {
  const { check, broken, failure } = props;
  const first = () => {
    const field = document.querySelector<HTMLElement>(".editor [aria-invalid='true'], .editor [data-invalid='true']");
    field?.focus({ preventScroll: true });
    field?.scrollIntoView({ block: "center" });
  };
  return (
    <footer className="stand-bar">
      {failure && (
        <p className="problem" role="alert">
          <Icon name="alert" />
          {failure}
        </p>
      )}
      <div className="stand-row">
        <span role="status">
          {broken ? "Some JSON does not parse" : standOf(check)}
          {check.state === "problems" && (
            <button type="button" className="quiet" onClick={first}>
              Show the first
            </button>
          )}
        </span>
        {check.state !== "unchanged" && !props.isNew && (
          <button type="button" className="button" onClick={props.onDiscard}>
            Discard
          </button>
        )}
        <button
          type="button"
          className="button primary"
          disabled={check.state !== "valid" || broken || !props.canSave}
          onClick={props.onReview}
        >
          {props.isNew ? "Create" : "Review and save"}
        </button>
      </div>
    </footer>
  );
}

function standOf(check: Check): string {
  switch (check.state) {
    case "unchanged":
      return "No changes";
    case "asking":
      return "Checking";
    case "valid":
      return check.changes.length === 0 ? "Valid" : `${counted(check.changes.length, "change")}, valid`;
    case "problems":
      return counted(check.problems.length, "problem");
    case "unknown":
      return `Cannot be checked: ${check.reason}`;
  }
}

function counted(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}
