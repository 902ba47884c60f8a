// As much of JSON Schema 2020-12 as docs/summary.schema.json uses. A keyword that is not known here
// is an error, so that no rule of the schema goes unchecked.

export type Schema = {
  $ref?: string;
  $defs?: Record<string, Schema>;
  type?: string | string[];
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean;
  items?: Schema;
  maxItems?: number;
  minimum?: number;
  maximum?: number;
  pattern?: string;
  enum?: unknown[];
  description?: string;
};

const KNOWN = new Set([
  "$schema",
  "$ref",
  "$defs",
  "title",
  "description",
  "type",
  "properties",
  "required",
  "additionalProperties",
  "items",
  "maxItems",
  "minimum",
  "maximum",
  "pattern",
  "enum",
]);

function typeOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return typeof value;
}

function hasType(value: unknown, type: string): boolean {
  return typeOf(value) === type || (type === "integer" && Number.isSafeInteger(value));
}

/** What is wrong with `value`, each with its place; nothing if it is valid. */
export function schemaErrors(root: Schema, value: unknown): string[] {
  const errors: string[] = [];
  const check = (schema: Schema, each: unknown, place: string): void => {
    for (const keyword of Object.keys(schema)) {
      if (!KNOWN.has(keyword)) throw new Error(`schema-check does not know "${keyword}"`);
    }
    if (schema.$ref !== undefined) {
      const target = root.$defs?.[schema.$ref.replace("#/$defs/", "")];
      if (target === undefined) throw new Error(`no ${schema.$ref}`);
      check(target, each, place);
    }
    const types = schema.type === undefined ? [] : [schema.type].flat();
    if (types.length > 0 && !types.some((type) => hasType(each, type))) {
      errors.push(`${place}: ${typeOf(each)} instead of ${types.join(" or ")}`);
      return;
    }
    if (schema.enum !== undefined && !schema.enum.includes(each)) {
      errors.push(`${place}: none of ${schema.enum.join(", ")}`);
    }
    if (typeof each === "number") {
      if (!Number.isFinite(each)) errors.push(`${place}: not in JSON`);
      if (schema.minimum !== undefined && each < schema.minimum) errors.push(`${place}: too small`);
      if (schema.maximum !== undefined && each > schema.maximum) errors.push(`${place}: too great`);
    } else if (typeof each === "string") {
      if (schema.pattern !== undefined && !new RegExp(schema.pattern, "u").test(each)) {
        errors.push(`${place}: does not match ${schema.pattern}`);
      }
    } else if (Array.isArray(each)) {
      if (each.length > (schema.maxItems ?? Infinity)) errors.push(`${place}: too many`);
      for (const [i, item] of each.entries()) {
        if (schema.items) check(schema.items, item, `${place}[${i}]`);
      }
    } else if (each !== null && typeof each === "object") {
      for (const key of schema.required ?? []) {
        if (!(key in each)) errors.push(`${place}.${key}: missing`);
      }
      for (const [key, item] of Object.entries(each)) {
        const known = schema.properties?.[key];
        if (known !== undefined) check(known, item, `${place}.${key}`);
        else if (schema.additionalProperties === false) errors.push(`${place}.${key}: unknown`);
      }
    }
  };
  check(root, value, "$");
  return errors;
}
