export { parquetMetadata } from "hyparquet/src/metadata.js";
export { parquetHeader } from "hyparquet/src/column.js";
export { readOffsetIndex } from "hyparquet/src/indexes.js";
export { Decompress as Unzstd } from "fzstd";
