// Profiles as a file: all of them taken away, or a file looked at and then applied as a whole.

import { useQueryClient } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { askJson, BASE, Refusal } from "../api";
import { Diff } from "./diff";
import type { Difference } from "./queries";

interface Applied {
  revision: number;
  steps: { registry: string; slug: string | null; operation: string; version: number; changes: Difference[] }[];
}

interface Plan {
  text: string;
  name: string;
  planned: Applied;
}

const apply = (text: string, query: string, expected?: number) =>
  askJson<Applied>(`api/chat/bundle${query}`, {
    method: "POST",
    body: { bundle: text, ...(expected === undefined ? {} : { expected_revision: expected }), note: "from a file" },
  });

export function Transfer() {
  const client = useQueryClient();
  const dialog = useRef<HTMLDialogElement>(null);
  const file = useRef<HTMLInputElement>(null);
  const [plan, setPlan] = useState<Plan | null>(null);
  const [wrong, setWrong] = useState<string[]>([]);

  const look = async (chosen: File | undefined) => {
    if (!chosen) return;
    setWrong([]);
    setPlan(null);
    dialog.current?.showModal();
    try {
      const text = await chosen.text();
      setPlan({ text, name: chosen.name, planned: await apply(text, "?dry_run=1") });
    } catch (error) {
      setWrong(saidOf(error));
    }
    if (file.current) file.current.value = "";
  };
  const take = async ({ text, planned }: Plan) => {
    try {
      await apply(text, "", planned.revision);
      await client.invalidateQueries({ queryKey: ["profiles"] });
      await client.invalidateQueries({ queryKey: ["profile"] });
      dialog.current?.close();
    } catch (error) {
      setWrong(saidOf(error));
    }
  };
  const steps = plan?.planned.steps ?? [];
  return (
    <div className="transfer">
      <a className="quiet" href={`${BASE}api/chat/bundle`} download="profiles.yaml">
        Export
      </a>
      <button type="button" className="quiet" onClick={() => file.current?.click()}>
        Import
      </button>
      <input
        ref={file}
        type="file"
        hidden
        accept=".yaml,.yml,.json"
        aria-label="File of profiles"
        onChange={(event) => void look(event.target.files?.[0])}
      />
      <dialog ref={dialog} className="review" aria-label="Import">
        <h2>{plan ? `What ${plan.name} would change` : "Import"}</h2>
        {wrong.map((text) => (
          <p key={text} className="complaint">
            {text}
          </p>
        ))}
        {plan && steps.length === 0 && <p className="hint">Nothing: everything in it is so already.</p>}
        <div className="steps">
          {steps.map((step) => (
            <details key={`${step.registry} ${step.slug} ${step.operation}`}>
              <summary>
                {step.operation.replaceAll("_", " ")} {step.slug ?? step.registry}
              </summary>
              <Diff changes={step.changes} />
            </details>
          ))}
        </div>
        <form method="dialog" className="sure-row">
          <button type="submit" className="button">
            Close
          </button>
          {plan && steps.length > 0 && (
            <button type="button" className="button primary" onClick={() => void take(plan)}>
              Apply
            </button>
          )}
        </form>
      </dialog>
    </div>
  );
}

function saidOf(error: unknown): string[] {
  if (!(error instanceof Refusal)) return [String(error)];
  if (error.problems.length === 0) return [error.message];
  return error.problems.map(({ field, message }) => (field ? `${field}: ${message}` : message));
}
