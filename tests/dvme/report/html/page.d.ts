// What the scripts of a page find in its window.
declare const Plotly: any;

interface Window {
  dvme: {templates: {light: any; dark: any}};
  explorer: Explorer;
}
