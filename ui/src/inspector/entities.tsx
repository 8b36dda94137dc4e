// The timeline as it is stored.

import { useQuery } from "@tanstack/react-query";
import { exact, relative } from "../time";
import { entities } from "./queries";

export function Entities({ convId }: { convId: string }) {
  const found = useQuery(entities(convId));
  if (found.isError) return <p className="hint">The timeline cannot be read: {found.error.message}.</p>;
  return (
    <ol className="log-lines">
      {found.data?.map((entity) => (
        <li key={entity.id}>
          <details>
            <summary>
              <time title={exact(Number(entity.createdAtMs ?? 0))}>{relative(Number(entity.createdAtMs ?? 0))}</time>
              <span className="event-type">{entity.kind}</span>
              <span className="event-text mono">{entity.id}</span>
            </summary>
            <pre>{JSON.stringify(entity, null, 2)}</pre>
          </details>
        </li>
      ))}
      {found.data?.length === 0 && <li className="hint">Nothing is stored.</li>}
    </ol>
  );
}
