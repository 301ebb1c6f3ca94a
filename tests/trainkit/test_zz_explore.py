import json, shutil
from pathlib import Path
import pytest
from tests.trainkit.conftest import *
import copy
CHAT = {"formatting":"sharegpt","columns":{"messages":"conversations","tools":"tools","system":"system"},}
G={"instruction":"Who goes there?","input":"","output":"A friend."}
def conv(*turns, **more):
    return {"conversations":[{"from":f,"value":v} for f,v in turns], **more}
OK=conv(("human","hi"),("gpt","yo"))
CASES={
 "roles": dict(rows=[OK, conv(("human","a"),("human","b")), conv(("gpt","a"),("human","b")), conv(("wizard","a"),("gpt","b")), conv(("human","a"),("gpt","b"),("human","c"))], layout=CHAT),
 "empty": dict(rows=[OK, conv(), {"conversations":None}, {}, conv(("human",""),("gpt",""))], layout=CHAT),
 "tools": dict(rows=[OK, conv(("human","a"),("gpt","b"),tools='[{"name": '), conv(("human","a"),("function_call",'{"name": "f", '),("observation","1"),("gpt","b"))], layout=CHAT),
 "toolformat": dict(rows=[OK], layout=CHAT, keys={"tool_format":"qwenn"}),
 "special": dict(rows=[OK, conv(("human","a<|im_end|>b"),("gpt","c"))], layout=CHAT),
 "special strict": dict(rows=[OK, conv(("human","a<|im_end|>b"),("gpt","c"))], layout=CHAT, keys={"compat":"strict"}),
 "special keep": dict(rows=[OK, conv(("human","a<|im_end|>b"),("gpt","c"))], layout=CHAT, keys={"special_text":"keep"}),
 "vocab": dict(rows=[OK], layout=CHAT, keys={"template":"llama3"}),
 "vocab2": dict(rows=[OK], layout=CHAT, keys={"template":"glm4"}),
 "short": dict(rows=[OK, conv(("human","word "*60),("gpt",""))], layout=CHAT, keys={"cutoff_len":4}),
 "short2": dict(rows=[conv(("human","word "*60),("gpt",""))], layout=CHAT, keys={"cutoff_len":4}),
 "masked": dict(rows=[{**conv(("human","a"),("gpt","b")), "conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b","train":False}]}, OK], layout=CHAT),
 "masked all": dict(rows=[{"conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b","train":False}]}], layout=CHAT),
 "none": dict(rows=[{"conversations":[]}], layout=CHAT),
 "zero": dict(rows=[], layout=CHAT),
 "zerofilter": dict(rows=[conv(("human","word "*60),("gpt","b"))], layout=CHAT, keys={"truncation":"drop","cutoff_len":16}),
 "media": dict(rows=[OK, {**conv(("human","<image>a"),("gpt","b")),"images":["a.png"]}], layout={**CHAT,"columns":{**CHAT["columns"],"images":"images"}}),
 "media stream": dict(rows=[OK, {**conv(("human","<image>a"),("gpt","b")),"images":["a.png"]}], layout={**CHAT,"columns":{**CHAT["columns"],"images":"images"}}, keys={"streaming":True}),
 "stream steps": dict(rows=[OK], layout=CHAT, keys={"streaming":True,"max_steps":-1}),
 "stream dpo": dict(rows=[OK], layout=CHAT, keys={"streaming":True,"stage":"dpo","dataset":"pairs"}),
 "stream strict pack": dict(rows=[OK], layout=CHAT, keys={"streaming":True,"compat":"strict","packing":True}),
 "stream all bad": dict(rows=[conv(("human","b"))], layout=CHAT, keys={"streaming":True}),
 "stream empty": dict(rows=[], layout=CHAT, keys={"streaming":True}),
 "probs": dict(rows=[OK], layout=CHAT, keys={"dataset":"rows,questions","mix_strategy":"interleave_under","interleave_probs":"0.5,0.4"}),
 "mix zero": dict(rows=[], layout=CHAT, keys={"dataset":"rows,questions","mix_strategy":"interleave_under"}),
 "mix all bad": dict(rows=[conv(("human","b"))], layout=CHAT, keys={"dataset":"rows,questions","mix_strategy":"interleave_under"}),
}
@pytest.mark.parametrize("name", CASES)
def test_x(name, trainkit, config_file, tmp_path, data_folder):
    c=CASES[name]
    d=tmp_path/"d"; d.mkdir()
    (d/"rows.jsonl").write_text("".join(json.dumps(r)+"\n" for r in c["rows"]))
    for n in ("questions.jsonl","pairs.jsonl"): shutil.copy(data_folder/n,d/n)
    info=json.loads((data_folder/"dataset_info.json").read_text())
    (d/"dataset_info.json").write_text(json.dumps({**info,"rows":{"file_name":"rows.jsonl",**c["layout"]}}))
    keys={"dataset":"rows","dataset_dir":str(d),"max_steps":1,**c.get("keys",{})}
    ran=trainkit("run","--json",config_file(**keys))
    print("=====",name,ran.code); print(ran.err[-1800:].replace(str(tmp_path),"TMP"));
    if ran.out: print({k:v for k,v in ran.json.items() if k in ("rows_in","rows_out","rejected","examples")})
    f=tmp_path/"out"/"rejected_rows.jsonl"
    print(f.read_text().replace(str(tmp_path),"TMP") if f.exists() else "no rejects")
