/** Rules about faults of JavaScript; its form is left to the writer. */

import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["static/rt-client.js", "static/rt-elements.js", "clients/js/rt-*.js", "**/locales/", "docs/", "examples/", "tests/", ".venv/"] },
  js.configs.recommended,
  {
    languageOptions: { globals: globals.browser },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      eqeqeq: "error",
      "no-unused-vars": ["error", { args: "none", ignoreRestSiblings: true, destructuredArrayIgnorePattern: "^_" }],
      "prefer-const": "error",
    },
  },
  { files: ["benchmarks/**", "clients/js/build.mjs", "clients/js/test/**", "eslint.config.js"], languageOptions: { globals: globals.node } },
  { files: ["static/sw.js"], languageOptions: { globals: globals.serviceworker } },
];
