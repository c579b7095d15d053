// Markdown as elements. Text only ever becomes text nodes, so whatever a model writes stays text.

/** Returns elements for `source`; code blocks get a copy button. */
export function render(source) {
  const lines = source.replace(/\r\n?/g, "\n").split("\n");
  const out = document.createDocumentFragment();
  blocks(lines, out);
  return out;
}

function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^ {0,3}([-*_])( *\1){2,}\s*$/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

function blocks(lines, out) {
  for (let i = 0; i < lines.length; ) {
    const line = lines[i];
    const fence = line.match(FENCE);
    if (fence) i = code(lines, i, fence, out);
    else if (!line.trim()) i += 1;
    else if (RULE.test(line)) { out.append(element("hr")); i += 1; }
    else if (HEADING.test(line)) {
      const [, marks, text] = line.match(HEADING);
      out.append(element(`h${Math.min(marks.length, 4)}`, "", ...inline(text)));
      i += 1;
    } else if (/^ {0,3}>/.test(line)) i = quote(lines, i, out);
    else if (ITEM.test(line)) i = list(lines, i, out);
    else if (line.includes("|") && i + 1 < lines.length && TABLE_RULE.test(lines[i + 1]) && lines[i + 1].includes("-"))
      i = table(lines, i, out);
    else i = paragraph(lines, i, out);
  }
}

/** A block of code; one that is not closed yet runs to the end. */
function code(lines, start, [, mark, language], out) {
  let end = start + 1;
  while (end < lines.length && !lines[end].trim().startsWith(mark)) end += 1;
  const text = lines.slice(start + 1, end).join("\n");
  const copy = element("button", "", "Copy");
  copy.type = "button";
  copy.dataset.copy = text;
  copy.setAttribute("aria-label", "Copy this code");
  const bar = element("div", "bar", element("span", "", language.trim() || "text"), copy);
  out.append(element("div", "code", bar, element("pre", "", element("code", "", text))));
  return end + 1;
}

function quote(lines, start, out) {
  let end = start;
  const inner = [];
  while (end < lines.length && /^ {0,3}>/.test(lines[end])) inner.push(lines[end++].replace(/^ {0,3}> ?/, ""));
  const made = element("blockquote");
  blocks(inner, made);
  out.append(made);
  return end;
}

function list(lines, start, out) {
  const [, indent, mark] = lines[start].match(ITEM);
  const ordered = /\d/.test(mark);
  const made = element(ordered ? "ol" : "ul");
  if (ordered && parseInt(mark, 10) !== 1) made.start = parseInt(mark, 10);
  let i = start;
  while (i < lines.length) {
    const item = lines[i].match(ITEM);
    if (!item || item[1].length !== indent.length || /\d/.test(item[2]) !== ordered) break;
    const inner = [item[3]];
    i += 1;
    const deeper = (line) => /^\s*$/.test(line) || line.length - line.trimStart().length > indent.length;
    while (i < lines.length && deeper(lines[i])) {
      // A blank line belongs to the item only if more of it follows.
      if (!lines[i].trim() && !(i + 1 < lines.length && lines[i + 1].trim() && deeper(lines[i + 1]))) break;
      inner.push(lines[i].replace(new RegExp(`^ {0,${indent.length + 4}}`), ""));
      i += 1;
    }
    const li = element("li");
    blocks(inner, li);
    const [only] = li.children;
    if (li.children.length >= 1 && only.tagName === "P") only.replaceWith(...only.childNodes);
    made.append(li);
    while (i < lines.length && !lines[i].trim() && i + 1 < lines.length && ITEM.test(lines[i + 1])) i += 1;
  }
  out.append(made);
  return i;
}

function cells(line) {
  return line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
}

function table(lines, start, out) {
  const row = (name, line) => element("tr", "", ...cells(line).map((cell) => element(name, "", ...inline(cell))));
  const body = element("tbody");
  let i = start + 2;
  while (i < lines.length && lines[i].includes("|")) body.append(row("td", lines[i++]));
  out.append(element("table", "", element("thead", "", row("th", lines[start])), body));
  return i;
}

function paragraph(lines, start, out) {
  let end = start;
  const ends = (line) => !line.trim() || FENCE.test(line) || HEADING.test(line) || RULE.test(line)
    || /^ {0,3}>/.test(line) || ITEM.test(line);
  do end += 1; while (end < lines.length && !ends(lines[end]));
  const made = element("p");
  lines.slice(start, end).forEach((line, n) => {
    if (n > 0) made.append(element("br"));
    made.append(...inline(line.trim()));
  });
  out.append(made);
  return end;
}

const INLINE = /(`+)(.+?)\1(?!`)|\*\*(?=\S)(.+?)(?<=\S)\*\*|\*(?=\S)([^*]+?)(?<=\S)\*|(?<![\w])_(?=\S)([^_]+?)(?<=\S)_(?![\w])|~~(.+?)~~|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)|(https?:\/\/[^\s<>()]+[^\s<>().,;:!?'"])/;

/** Nodes for the text of a line. */
function inline(text) {
  const nodes = [];
  while (text) {
    const found = text.match(INLINE);
    if (!found) break;
    const [all, , codeText, strong, emphasis, underscored, struck, label, target, bare] = found;
    if (found.index) nodes.push(text.slice(0, found.index));
    if (codeText !== undefined) nodes.push(element("code", "", codeText.trim() || codeText));
    else if (strong !== undefined) nodes.push(element("strong", "", ...inline(strong)));
    else if (emphasis !== undefined || underscored !== undefined)
      nodes.push(element("em", "", ...inline(emphasis ?? underscored)));
    else if (struck !== undefined) nodes.push(element("s", "", ...inline(struck)));
    else nodes.push(link(target ?? bare, label ?? bare));
    text = text.slice(found.index + all.length);
  }
  if (text) nodes.push(text);
  return nodes;
}

function link(target, label) {
  const made = element("a", "", label);
  made.href = target;
  made.rel = "noopener noreferrer nofollow";
  made.target = "_blank";
  return made;
}
