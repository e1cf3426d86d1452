// HTML as a type of its own: text that goes into it is escaped unless it is HTML already.

export class Html {
  constructor(readonly text: string) {}
}

export type Piece = Html | string | number | undefined | false | readonly Piece[];

const ENTITIES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

export function html(strings: TemplateStringsArray, ...pieces: Piece[]): Html {
  return new Html(strings.reduce((text, string, index) => text + show(pieces[index - 1]) + string));
}

function show(piece: Piece): string {
  if (piece === undefined || piece === false) return "";
  if (piece instanceof Html) return piece.text;
  if (typeof piece === "string" || typeof piece === "number") {
    return String(piece).replace(/[&<>"']/g, (character) => ENTITIES[character] ?? "");
  }
  return piece.map(show).join("");
}
