import js from "@eslint/js";
import globals from "globals";

// The modules are joined in one scope: see captum_pairs/show/page/_script.py.
const whatCantBeJoined = [
  "ImportDefaultSpecifier",
  "ImportNamespaceSpecifier",
  "ExportDefaultDeclaration",
  "ExportAllDeclaration",
  "ExportNamedDeclaration[declaration=null]",
].map((selector) => ({ selector, message: "Modules that are joined can't have it." }));

export default [
  js.configs.recommended,
  {
    files: ["**/*.js"],
    languageOptions: {
      ecmaVersion: 2022,
      sourceType: "module",
      globals: globals.browser,
    },
    rules: {
      complexity: ["error", 12],
      curly: "error",
      eqeqeq: "error",
      "max-lines-per-function": ["error", { max: 45, skipComments: true }],
      "max-lines": ["error", { max: 300 }],
      "no-restricted-properties": [
        "error",
        { property: "innerHTML", message: "Text is set as text." },
        { property: "outerHTML", message: "Text is set as text." },
        { property: "insertAdjacentHTML", message: "Text is set as text." },
      ],
      "no-restricted-syntax": ["error", ...whatCantBeJoined],
      "no-shadow": "error",
      "no-var": "error",
      "prefer-const": "error",
    },
  },
];
