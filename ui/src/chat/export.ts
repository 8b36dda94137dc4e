// A conversation as a file.

import { attributionOf, type Conversation, replacedTurns, roleOf, textOf, turnOf } from "./frames";

export function asMarkdown(title: string, conversation: Conversation): string {
  const parts = [`# ${title}`];
  const replaced = replacedTurns(conversation);
  let mark = "";
  for (const id of conversation.order) {
    const entity = conversation.entities.get(id);
    const begun = entity && turnOf(entity);
    if (begun) mark = replaced.has(begun) ? " (replaced)" : "";
    if (entity?.kind !== "message" || roleOf(entity) === "thinking") continue;
    const { runtimeKey, profileVersion, model } = attributionOf(entity);
    const by = [runtimeKey && `${runtimeKey} v${profileVersion}`, model].filter(Boolean).join(", ");
    parts.push(`## ${roleOf(entity) === "user" ? "You" : by || "Assistant"}${mark}`, textOf(entity));
  }
  return `${parts.join("\n\n")}\n`;
}

export function save(name: string, type: string, text: string | Blob): void {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name.replaceAll(/[/\\:]+/g, "-");
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
