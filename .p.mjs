import fs from 'node:fs'; const C=fs.constants;
import { openKernel } from './dist/index.js';
const k = openKernel({kernel:'native'});
const D='/sys/bus/pci/devices/0000:00:02.0';
fs.writeFileSync(D+'/driver_override','vfio-pci'); fs.writeFileSync('/sys/bus/pci/drivers_probe','0000:00:02.0');
const c=k.open('/dev/vfio/vfio'); const g=k.open('/dev/vfio/2'); k.ioctl(g,0x3b68,new Uint8Array(Int32Array.of(c).buffer)); k.ioctl(c,0x3b66,3);
const show=()=>{ console.log(fs.readFileSync('/proc/iomem','utf8').split('\n').filter((l,i,a)=>/vfio|00:02.0/.test(l)).join('\n')); console.log(fs.readFileSync('/proc/interrupts','utf8').split('\n').filter(l=>/vfio/.test(l)).join('\n')); for (const f of ['enable','irq','power/runtime_status','power_state','power/control']) console.log(f, fs.readFileSync(D+'/'+f,'utf8').trim()); console.log(fs.readdirSync(D).filter(n=>/msi_irqs/.test(n)).map(n=>fs.readdirSync(D+'/'+n).map(m=>m+'='+fs.readFileSync(D+'/'+n+'/'+m,'utf8').trim()).join())); };
show();
const d=k.ioctl(g,0x3b6a,Buffer.from('0000:00:02.0\0')); console.log('fd'); show();
console.log(fs.readFileSync('/proc/self/fdinfo/'+d,'utf8'));
const e=k.eventfd(); 
const irq=(index,fd)=>k.ioctl(d,0x3b6e,new Uint8Array(Int32Array.of(24,4|32,index,0,1,fd).buffer));
irq(1,e); console.log('msi'); show();
try { k.ioctl(d,0x3b6e,new Uint8Array(Int32Array.of(20,1|32,1,0,0).buffer)); } catch(x){console.log(x.message)}
irq(0,e); console.log('intx'); show();
const m=k.mmap({fd:k.open(D+'/resource0'),length:4096}); console.log('res0', m.read32(0).toString(16));
for (const [l,o] of [[1<<20,0],[4096,(1<<20)-4096],[4096,1<<20],[(1<<20)+4096,0],[8192,(1<<20)-4096]]) try { k.mmap({fd:k.open(D+'/resource0'),length:l,offset:o,view:false}); console.log(l,o,'ok'); } catch(x){ console.log(l,o,x.code); }
try { k.mmap({fd:k.open(D+'/resource0'),length:4096,flags:2,view:false}); console.log('private ok'); } catch(x){ console.log('private',x.code); }
try { k.mmap({fd:k.open('/sys/bus/pci/devices/0000:02:00.0/resource2'),length:4096,view:false}); console.log('io ok'); } catch(x){ console.log('io',x.code); }
try { k.mmap({fd:k.open(D+'/config'),length:4096,view:false}); } catch(x){ console.log('config mmap',x.code); }
try { k.mmap({fd:k.open(D+'/vendor',0),length:4096,prot:1,flags:1,view:false}); } catch(x){ console.log('vendor mmap',x.code); }
try { k.ioctl(k.open(D+'/vendor',0),0x3b64); } catch(x){ console.log('vendor ioctl',x.code); }
try { k.ioctl(k.open(D,0),0x3b64); } catch(x){ console.log('dir ioctl',x.code); }
console.log(k.poll([{fd:k.open(D+'/vendor',0),events:7}, {fd:k.open(D,0),events:7}]));
console.log(await Promise.race([k.waitAsync(k.open(D+'/vendor',0),1).catch(x=>x.code), new Promise(r=>setTimeout(()=>r('later'),500))]), await Promise.race([k.waitAsync(k.open(D,0),1).catch(x=>x.code), new Promise(r=>setTimeout(()=>r('later'),500))]));
for (const [n,f] of Object.entries({ ftr: ()=>k.ftruncate(k.open(D+'/driver_override'),0), fallo: ()=>k.fallocate(k.open(D+'/driver_override'),0,0,10), ftrunc_ro: ()=>k.ftruncate(k.open(D+'/vendor',0),0), pw: ()=>k.pwrite(k.open(D+'/driver_override'),Buffer.from('abc\n'),100), fl: ()=>k.fcntl(k.open(D,0x10000),3).toString(8), dirdup: ()=>k.fcntl(k.open(D,0),3).toString(8), fion: ()=>{const b=new Uint8Array(4); k.ioctl(k.open(D+'/vendor',0),0x541b,b,{unsafe:true}); return b}, qsize: ()=>{const b=new Uint8Array(8); k.ioctl(k.open(D+'/vendor',0),0x5460,b,{unsafe:true}); return b}, qsized: ()=>{const b=new Uint8Array(8); k.ioctl(k.open(D,0),0x5460,b,{unsafe:true}); return b}, bsz: ()=>{const b=new Uint8Array(4); k.ioctl(k.open(D,0),2,b,{unsafe:true}); return b}, exec: ()=>k.mmap({fd:k.open(D+'/resource0'),length:4096,prot:7,view:false}).length, procw: ()=>k.write(k.open('/proc/devices'),Buffer.from('x')), procmisc: ()=>fs.readFileSync('/proc/misc','utf8')})) try { console.log(n, f()); } catch(x) { console.log(n, x.code); }
console.log(fs.readFileSync(D+'/driver_override','utf8'));
