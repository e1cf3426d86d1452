// Writes src/schema.ts from the OpenAPI document on standard input, so that the types cannot say anything else.

import { readFileSync } from "node:fs";

const document = JSON.parse(readFileSync(0, "utf8"));
const out = [
  "// Made by `npm run types` from the OpenAPI document of the server; do not edit.",
  "",
];

function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const either = schema.anyOf ?? schema.oneOf;
  if (either) return either.map(typeOf).join(" | ");
  if (schema.type === "array") return `Array<${typeOf(schema.items)}>`;
  if (schema.type === "integer") return "number";
  if (schema.type !== "object") return schema.type;
  if (!schema.properties) return "{ [member: string]: unknown }";
  return `{ ${members(schema).join(" ")} }`;
}

/** The members of an object; what is not required of a body may also be null. */
function members({ properties, required = [], additionalProperties, title }) {
  const lines = Object.entries(properties).map(([name, schema]) => {
    const comment = schema.description ? `/** ${schema.description} */ ` : "";
    return `${comment}${name}${required.includes(name) ? "" : "?"}: ${typeOf(schema)};`;
  });
  // The browser may add members of its own to what it gives.
  return title || additionalProperties === false ? lines : [...lines, "[member: string]: unknown;"];
}

for (const [name, schema] of Object.entries(document.components.schemas)) {
  const text = schema.description.replace(/\s+/g, " ");
  out.push(`/** ${text} */`, `export interface ${name} {`, ...members(schema).map((line) => `  ${line}`), "}", "");
}

const operations = Object.entries(document.paths).flatMap(([path, item]) =>
  Object.entries(item).filter(([, operation]) => operation.security?.length !== 0)
    .map(([method, operation]) => ({ method: method.toUpperCase(), path, ...operation })));
const jsonOf = (content) => content?.["application/json"]?.schema;

out.push("/** What each call takes and answers. */", "export interface Operations {");
for (const { operationId, requestBody, responses, parameters = [] } of operations) {
  const answers = Object.entries(responses).filter(([status]) => status < "300").map(([, { content }]) => content);
  const answer = [...new Set(answers.map((content) => (content ? typeOf(jsonOf(content)) : "undefined")))].join(" | ");
  const body = requestBody ? typeOf(jsonOf(requestBody.content)) : "undefined";
  const query = parameters.filter((one) => one.in === "query").map((one) => `${one.name}?: ${typeOf(one.schema)}`);
  out.push(`  ${operationId}: { body: ${body}; query: { ${query.join("; ")} }; answer: ${answer} };`);
}
out.push("}", "", "/** Where each call goes. */", "export const OPERATIONS = {");
for (const { operationId, method, path } of operations) {
  out.push(`  ${operationId}: ["${method}", "${path}"],`);
}
out.push("} as const satisfies { [name in keyof Operations]: readonly [string, string] };");
console.log(out.join("\n"));
