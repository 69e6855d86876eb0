/**
 * Joins the parts of each module into the one file that pages and programs load.
 *
 *     node build.mjs [FOLDER]
 *
 * FOLDER is the `static` of the repository by default; `npm pack` builds into the package itself. A part is
 * put in after those that it imports. Nothing is renamed, so that no two parts may declare the same name. The
 * languages stay files of their own, in `locales`: only who reads one loads it.
 */

import { copyFileSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const MODULES = { "rt-client.js": "src/index.js", "rt-elements.js": "src/elements/index.js" };
const IMPORT = /^import \{([^}]*)\} from "([^"]+)";\n/gm;
const REEXPORT = /^export \{([^}]*)\} from "([^"]+)";\n/gm;
const DECLARATION = /^(?:export )?(?:async )?(?:const|let|class|function\*?) (\w+)/gm;
// Another module of the package: it stays an import.
const OUTER = /^\.\.\/index\.js$/;

function names(list) {
  return list.split(",").map((one) => one.trim()).filter(Boolean);
}

/** Add a part and what it imports to `joined`, each once. */
function add(path, joined) {
  if (joined.parts.has(path)) return;
  joined.parts.set(path, "");
  const source = readFileSync(path, "utf8");
  for (const pattern of [IMPORT, REEXPORT]) {
    for (const [, list, from] of source.matchAll(pattern)) {
      if (OUTER.test(from)) names(list).forEach((name) => joined.outer.add(name));
      else add(resolve(dirname(path), from), joined);
      if (pattern === REEXPORT) joined.exported.push(...names(list));
    }
  }
  for (const [, name] of source.matchAll(DECLARATION)) {
    if (joined.declared.has(name)) throw new Error(`${path} declares ${name}, as ${joined.declared.get(name)} does`);
    joined.declared.set(name, path);
  }
  const text = source.replaceAll(IMPORT, "").replaceAll(REEXPORT, "").replaceAll(/^export /gm, "");
  // A part imports all parts before it: deleted and set again it stands behind them.
  joined.parts.delete(path);
  joined.parts.set(path, text.trim());
}

function build(entry) {
  const joined = { parts: new Map(), declared: new Map(), exported: [], outer: new Set() };
  add(join(HERE, entry), joined);
  const texts = [...joined.parts.values()];
  // The words on the whole come first; the rest of the entry is only what is exported.
  const [head, ...rest] = texts.pop().split(/(?<=\*\/)\n/);
  // The parts are checked, each by itself.
  const unchecked = "// @ts-nocheck";
  const body = [...texts, rest.join("\n").trim()].filter(Boolean);
  const outer = joined.outer.size ? [`import { ${[...joined.outer].sort().join(", ")} } from "./rt-client.js";`] : [];
  const exported = joined.exported.length ? [`export { ${joined.exported.sort().join(", ")} };`] : [];
  return [unchecked, head, ...outer, ...body, ...exported].join("\n\n") + "\n";
}

const folder = resolve(process.argv[2] ?? join(HERE, "../../static"));
for (const [name, entry] of Object.entries(MODULES)) {
  writeFileSync(join(folder, name), build(entry));
}
const LOCALES = join(HERE, "src/locales");
mkdirSync(join(folder, "locales"), { recursive: true });
for (const name of readdirSync(LOCALES)) copyFileSync(join(LOCALES, name), join(folder, "locales", name));
