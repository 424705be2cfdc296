"""One HTML file that opens without a network: its frame, figures, tables, maps to explore, and thumbnails.

A content security policy forbids every request of the page, so that it cannot fetch anything even by accident. First
comes the verdict, as text: the first paint waits for no script. Then our own scripts, then plotly.js, once. Figures are
drawn when they come near the screen, and all of them before printing. They carry no colour of the page: light and dark
are two plotly templates. What comes from the user goes through one of three doors: HTML text, JSON without <, > and &,
and `style.shown` for plotly, which renders some HTML. Tests plant `<script>` in every name.

The maps are not plotly's, which is too slow for linked selections (BENCHMARKS.md). `points.js` draws all maps with one
WebGL context, because browsers give a page only a few: eight shapes as distance functions, copied to each map's canvas.
Without WebGL the same shapes are stamped on a 2D canvas. What is hovered, selected or hidden is state of the
`Explorer`, which all maps show. Pointing, lasso and keyboard walk over all points by brute force; a lasso looks only at
those of its sides that are level with a point.

Above 60,000 images a page has to stay small, and to be shown before its data are read. `many_points.py` puts numbers on
16 bits, codes texts and deflates both; `packing.js` unpacks them after the first paint. `bins.js` draws a square of
pixels for all points that fall into it, because a million points hide each other and a processor takes long for their
shapes. Which image lends its square the colour is drawn by lot: a mean of colours would be the colour of another class.
"""
