"""How a card's page looks, on a screen and on paper."""

STYLE = """
:root{--ink:#16222e;--muted:#5d6b78;--line:#dde3e8;--soft:#f4f7f9;--main:#0b6e8f;--control:#b3541e}
*{box-sizing:border-box}
body{margin:0;background:#fff;color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",
 "DejaVu Sans",sans-serif;font-variant-numeric:tabular-nums}
main{max-width:1080px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:30px;line-height:1.2;margin:0 0 6px;letter-spacing:-.01em}
h2{font-size:19px;margin:44px 0 6px}
p{margin:0 0 10px;max-width:74ch}
.lead,.hint{color:var(--muted)}
.banner{background:#8a3b0d;color:#fff;padding:11px 24px;text-align:center;font-size:15px}
.banner b{letter-spacing:.06em}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(310px,1fr));gap:14px;margin-top:20px}
.card{border:1px solid var(--line);border-radius:10px;padding:16px 18px 12px;break-inside:avoid}
.card h3{margin:0;font-size:14px;font-weight:600;color:var(--muted);display:flex;justify-content:space-between}
.card h3 span{font-weight:400;font-size:12.5px}
.big{font-size:38px;font-weight:650;line-height:1.15;letter-spacing:-.02em}
.big small{font-size:14.5px;font-weight:400;letter-spacing:0;color:var(--muted);margin-left:7px}
.card p{font-size:13.5px;color:var(--muted);margin:2px 0 8px;line-height:1.4}
.card svg{display:block;width:100%;height:auto}
.card text{font-size:11.5px;fill:var(--ink)}
.card text.n{fill:var(--muted);font-size:10.5px}
text.tick{font-size:10px;fill:var(--muted)}
svg.dot{display:block}
.card svg.curve{margin:6px 0 4px}
.card ol{margin:4px 0 0;padding-left:18px;font-size:12.5px}
.card ol li{margin:0 0 2px}
small{color:var(--muted);font-weight:400}
.short{border-left:4px solid var(--main);background:var(--soft);padding:4px 20px 8px;margin:22px 0 0;
 border-radius:0 8px 8px 0}
.short h2{margin:12px 0 4px}
.short ul{margin:0;padding-left:18px;max-width:92ch}
.flag{border:1px solid var(--line);border-left:5px solid #b8860b;border-radius:8px;padding:10px 16px;margin:10px 0;
 break-inside:avoid}
.flag.serious{border-left-color:#a4243b}
.flag.note{border-left-color:#5d6b78}
.flag h3{margin:0 0 4px;font-size:15.5px;font-weight:600}
.flag h3 span{display:inline-block;background:#b8860b;color:#fff;border-radius:4px;padding:0 8px;margin-right:6px;
 font-size:12.5px}
.flag.serious h3 span{background:#a4243b}
.flag.note h3 span{background:#5d6b78}
.flag p{font-size:14px;margin:0 0 4px;max-width:95ch}
.unflagged{font-weight:600;color:#1d6b45}
ul.checks{list-style:none;padding:0;margin:10px 0 0;columns:2;column-gap:28px;font-size:13.5px;max-width:none}
.checks li{break-inside:avoid;margin:0 0 3px}
.checks b{display:inline-block;min-width:104px;font-weight:600;color:#1d6b45}
.checks .flagged b{color:#a4243b}
.checks .not-possible b{color:var(--muted)}
.flag h3 span{text-transform:capitalize}
.roc img{max-width:780px}
.pair.even{grid-template-columns:minmax(0,400px) minmax(0,400px)}
.shares{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:10px 28px;margin-top:8px}
.shares>div{break-inside:avoid}
.shares h3,.case h3{font-size:13.5px;color:var(--muted);margin:8px 0 2px;font-weight:600}
table.plain td{padding:2px 8px 2px 0;border-bottom:1px solid var(--soft);font-size:13.5px}
td.bar{width:96px}
td.bar i{display:block;height:8px;background:var(--main);opacity:.55;border-radius:4px}
.chip{display:inline-block;border-radius:4px;padding:1px 8px;margin:0 6px 4px 0;font-size:12.5px;background:#e8edf1}
.chip.bad,mark.bad{background:#f8dfe3;color:#7c1326}
.chip.warn,mark.warn{background:#fbecd0;color:#6b4300}
.chip.a{background:#d8ebf2;color:#084c63}
.chip.b{background:#f6e3d6;color:#7a3710}
mark{padding:1px 3px;border-radius:3px}
.cases{display:grid;gap:16px;margin-top:12px}
.case{display:grid;grid-template-columns:300px minmax(0,1fr);gap:18px;border:1px solid var(--line);
 border-radius:10px;overflow:hidden;break-inside:avoid}
.case.words{grid-template-columns:1fr}
.case.words>div{padding-left:16px}
.case figure{margin:0;background:#000}
.case>div{padding:12px 16px 8px 0}
.case .two{display:grid;grid-template-columns:1fr 1fr;gap:18px}
.case .two p{font-size:13.5px;margin:0 0 4px}
.uid{font-size:11.5px;color:var(--muted);margin:10px 0 0;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:auto 1fr;gap:2px 16px;font-size:13.5px;margin:6px 0}
dt{color:var(--muted)}
dd{margin:0;overflow-wrap:anywhere}
figure{margin:12px 0 0}
figure img{max-width:100%;height:auto;display:block}
.pair{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1.7fr);gap:28px;align-items:start}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px}
th{text-align:left;color:var(--muted);font-weight:600;border-bottom:2px solid var(--line);padding:6px 10px 6px 0}
td{border-bottom:1px solid var(--line);padding:6px 10px 6px 0;vertical-align:top}
td.n,th.n{text-align:right;white-space:nowrap}
td code{font:12.5px ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
tr.group td{padding-top:18px;font-weight:650;border-bottom-color:#b9c4cd}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(320px,1fr));gap:20px;margin-top:14px}
.gallery figure{margin:0;border:1px solid var(--line);border-radius:10px;overflow:hidden;break-inside:avoid}
.gallery img{width:100%;background:#000}
.gallery figcaption{padding:10px 14px;font-size:14px}
.gallery pre{margin:0;padding:0 14px 14px;font:13px/1.45 system-ui,"DejaVu Sans",sans-serif;white-space:pre-wrap;
 color:#33414d}
ul{padding-left:20px;max-width:78ch}
li{margin:0 0 6px}
.simulated{position:relative}
.tag{color:#8a3b0d;font-weight:600;font-size:12.5px}
footer{margin-top:48px;border-top:1px solid var(--line);padding-top:12px;color:var(--muted);font-size:13px;
 overflow-wrap:anywhere}
@media screen and (max-width:760px){.pair,.case,.case .two{grid-template-columns:1fr}.case>div{padding:12px 16px}
main{padding:22px 16px 48px}}
@page{margin:14mm}
@media print{
 .cards{grid-template-columns:repeat(3,1fr);gap:8px}.card{padding:8px 10px}.big{font-size:24px}
 .big small{font-size:11px}
 h2{margin-top:22px}.gallery{grid-template-columns:repeat(3,1fr)}.case{grid-template-columns:200px minmax(0,1fr)}
 .wide table{font-size:9.5px}.wide td,.wide th{padding:2px 6px 2px 0}td code{font-size:9px}
 svg.dot{width:110px;height:auto}
 p,.hint,li{font-size:11.5px}.roc img{max-width:520px}
body{font-size:13px}main{padding:0}h2{break-after:avoid}tr{break-inside:avoid}
.flag h3 span,.chip,mark,td.bar i,.short{-webkit-print-color-adjust:exact;print-color-adjust:exact}
.banner{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
