// What a dashboard's JSON must look like: the types of @grafana/schema, put together by the kinds of panels that we have.
// Grafana's own type of a panel leaves options and queries open, and would let any misspelt one through.
import type * as grafana from "@grafana/schema";
import type { Options as Stat } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen.js";
import type { FieldConfig as TimelineField, Options as Timeline } from "@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen.js";
import type { FieldConfig as GraphField, Options as Graph } from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen.js";

// JSON has no enumerations: their values instead.
type Plain<T> = T extends string ? `${T}` : T extends (infer Item)[] ? Plain<Item>[] : T extends object ? { [Key in keyof T]: Plain<T[Key]> } : T;

interface Datasource {
  type: "prometheus";
  uid: "${datasource}";
}

// Prometheus' own part of a query: its plugin's types are in no package of a few megabytes.
interface Query {
  datasource: Datasource;
  exemplar: boolean;
  expr: string;
  instant: boolean;
  legendFormat: string;
  range: boolean;
  refId: string;
}

interface Panel<Type extends string, Options, Field>
  extends Omit<grafana.Panel, "type" | "datasource" | "fieldConfig" | "options" | "targets"> {
  type: Type;
  id: number;
  title: string;
  description: string;
  gridPos: grafana.GridPos;
  datasource: Datasource;
  options: Options;
  targets: Query[];
  fieldConfig: { defaults: Omit<grafana.FieldConfig, "custom"> & { unit: string; custom?: Partial<Field> }; overrides: [] };
}

type Row = Omit<grafana.RowPanel, "panels"> & { panels: [] };
type Shown = Row | Panel<"stat", Stat, never> | Panel<"timeseries", Graph, GraphField> | Panel<"state-timeline", Timeline, TimelineField>;

export type Board = Plain<Omit<grafana.Dashboard, "panels">> & { panels: Plain<Shown>[] };
